"""The readout_attention kernels in Triton's interpreter against float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.readout_attention.reference import readout_attention_reference

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_empty")]

NAMES = ("out", "dqueries", "dhidden")


@dataclass(frozen=True)
class Case:
    lengths: tuple[int, ...]
    d: int
    mask: str
    p: float
    dtype: torch.dtype
    rows: tuple[int, int] = (3, 2)  # readouts, heads

    def __str__(self) -> str:
        lengths = "-".join(map(str, self.lengths))
        return f"L{lengths}-d{self.d}-{self.rows}-{self.mask}-p{self.p}-{str(self.dtype)[6:]}"


SHORT = (5, 1, 0, 30, 2)
CASES = [
    *(
        Case(SHORT, 40, mask, p, dtype)
        for mask in ("asymmetric", "symmetric")
        for p in (0.0, 0.3)
        for dtype in (torch.float32, torch.bfloat16)
    ),
    Case((69, 81), 768, "asymmetric", 0.1, torch.bfloat16),  # the official width
    Case((70,), 123, "asymmetric", 0.3, torch.float16),
    Case((9, 4), 24, "symmetric", 0.3, torch.float32, rows=(5, 4)),
    Case((9, 4), 24, "asymmetric", 0.0, torch.float32, rows=(1, 1)),
    Case((200,), 24, "asymmetric", 0.3, torch.float32),
    Case((512, 3), 40, "symmetric", 0.3, torch.bfloat16),
]


def run(function: Callable[..., Tensor], tensors: list[Tensor], dout: Tensor) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in tensors]
    out = function(*leaves)
    return (out.detach(), *torch.autograd.grad(out, leaves, dout))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_worse_than_eager(case: Case, seed: Tensor, no_worse: Callable[..., None]) -> None:
    torch.manual_seed(0)
    cu = torch.tensor([0, *case.lengths]).cumsum(0).to(torch.int32)
    longest, scale = max(case.lengths), case.d**-0.5
    queries = torch.randn(len(case.lengths), *case.rows, case.d).to(case.dtype)
    hidden = torch.randn(int(cu[-1]), case.d + 8).to(case.dtype)[:, : case.d]  # strided rows
    dout = torch.randn_like(queries)

    def kernel(*tensors: Tensor) -> Tensor:
        return readout_attention(
            *tensors,
            cu,
            max_seqlen=longest,
            mask=case.mask,
            scale=scale,
            dropout=case.p,
            seed=seed,
        )

    def reference(*tensors: Tensor) -> Tensor:
        return readout_attention_reference(*tensors, cu, longest, case.mask, scale, case.p, seed)

    got = run(kernel, [queries, hidden], dout)
    naive = run(reference, [queries, hidden], dout)
    gold = run(reference, [queries.double(), hidden.double()], dout.double())
    for name, *values in zip(NAMES, got, gold, naive, strict=True):
        no_worse(name, *values)
    if case.lengths == SHORT:
        for a, b in zip(got, run(kernel, [queries, hidden], dout), strict=True):
            assert torch.equal(a, b)


def test_strided_queries_bounds_and_gradient(seed: Tensor) -> None:
    cu = torch.tensor([0, 5, 6], dtype=torch.int32)
    settings = {"max_seqlen": 5, "mask": "asymmetric", "scale": 0.2, "dropout": 0.3, "seed": seed}
    results = []
    for bounds, dout, strided in (
        (cu, torch.ones(2, 3, 2, 24), False),
        (cu.repeat_interleave(2)[::2], torch.ones(()).expand(2, 3, 2, 24), True),
    ):
        torch.manual_seed(0)
        queries, hidden = torch.randn(2, 2, 3, 24).transpose(1, 2), torch.randn(6, 24)
        leaves = [queries if strided else queries.contiguous(), hidden]
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        out = readout_attention(*leaves, bounds, **settings)
        results.append((out.detach(), *torch.autograd.grad(out, leaves, dout)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_large_scores_stay_finite(no_worse: Callable[..., None]) -> None:
    cu = torch.tensor([0, 3], dtype=torch.int32)
    queries, hidden = torch.full((1, 2, 1, 16), 100.0), torch.randn(3, 16) * 100
    out = readout_attention(queries, hidden, cu, max_seqlen=3, mask="asymmetric", scale=1.0)
    gold = readout_attention_reference(queries.double(), hidden.double(), cu, 3, "asymmetric", 1.0)
    naive = readout_attention_reference(queries, hidden, cu, 3, "asymmetric", 1.0)
    no_worse("out", out, gold, naive)
