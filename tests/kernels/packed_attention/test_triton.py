"""The packed_attention kernels in Triton's interpreter against float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.packed_attention import packed_attention, packed_self_attention
from odmt_fast.kernels.packed_attention.reference import packed_attention_reference

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_empty")]

NAMES = ("out", "dq", "dk", "dv")


@dataclass(frozen=True)
class Case:
    lengths: tuple[int, ...]
    d: int
    mask: str
    p: float
    dtype: torch.dtype
    longest: int | None = None  # a bound above the longest segment
    heads: int = 2
    groups: int = 1

    def __str__(self) -> str:
        lengths = "-".join(map(str, self.lengths))
        return f"L{lengths}-D{self.d}-{self.mask}-p{self.p}-{str(self.dtype)[6:]}-G{self.groups}"


ITEMS, USERS = (5, 1, 30, 0, 64), (5, 1, 3, 0, 12, 9, 1)  # a segment a tile, several a tile
CASES = [
    *(
        Case(lengths, 24, mask, p, dtype)
        for lengths in (ITEMS, USERS)
        for mask in ("asymmetric", "symmetric", "causal")
        for p, dtype in ((0.0, torch.float32), (0.3, torch.bfloat16))
    ),
    Case(ITEMS, 40, "asymmetric", 0.3, torch.float32),
    Case(USERS, 40, "causal", 0.3, torch.float32),
    Case(USERS, 88, "causal", 0.3, torch.float16),
    Case((9, 2), 16, "symmetric", 0.1, torch.float16, longest=11),
    Case((7,), 768, "causal", 0.0, torch.bfloat16, heads=1),
    Case((70, 3), 384, "asymmetric", 0.1, torch.bfloat16, longest=81),  # the official head
    Case((5, 1, 8, 2, 9, 3), 24, "causal", 0.3, torch.float32, groups=2),  # several a tile
    Case((40, 3, 9, 34), 24, "symmetric", 0.3, torch.float32, groups=2),
    Case((130, 5, 70, 65), 24, "causal", 0.3, torch.float32, heads=1, groups=2),
    Case((70, 128), 48, "symmetric", 0.3, torch.float32),
    Case((130, 1), 24, "causal", 0.3, torch.bfloat16, heads=1),
    Case((200,), 24, "asymmetric", 0.3, torch.float32, heads=1),
    Case((300, 2), 32, "asymmetric", 0.0, torch.bfloat16, heads=1),
    Case((512,), 16, "symmetric", 0.3, torch.float16, heads=1),
]


def run(function: Callable[..., Tensor], fused: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    leaf = fused.detach().requires_grad_()
    qkv = leaf.unbind(1)
    out = function(*qkv)
    return (out.detach(), *torch.autograd.grad(out, qkv, dout))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_worse_than_eager(case: Case, seed: Tensor, no_worse: Callable[..., None]) -> None:
    torch.manual_seed(0)
    cu = torch.tensor([0, *case.lengths]).cumsum(0).to(torch.int32)
    longest = case.longest or max(case.lengths)
    scale = case.d**-0.5
    # Strides of a fused projection with a gap: nothing may rely on contiguous q, k, v.
    wide = torch.randn(int(cu[-1]), 3, case.heads, case.d + 8).to(case.dtype)
    fused, dout = wide[..., : case.d], torch.randn(int(cu[-1]), case.heads, case.d).to(case.dtype)

    def kernel(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return packed_attention(
            q,
            k,
            v,
            cu,
            max_seqlen=longest,
            mask=case.mask,
            scale=scale,
            dropout=case.p,
            seed=seed,
            groups=case.groups,
        )

    def reference(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        settings = (longest, case.mask, scale, case.p, seed, case.groups)
        return packed_attention_reference(q, k, v, cu, *settings)

    got = run(kernel, fused, dout)
    naive = run(reference, fused, dout)
    gold = run(reference, fused.double(), dout.double())
    for name, *values in zip(NAMES, got, gold, naive, strict=True):
        no_worse(name, *values)
    if case.p and case.lengths in (ITEMS, USERS, (130, 1)):
        for a, b in zip(got, run(kernel, fused, dout), strict=True):
            assert torch.equal(a, b)


def test_fused_gradient_is_written_in_place(seed: Tensor) -> None:
    cu = torch.tensor([0, 9, 12], dtype=torch.int32)
    fused, dout = torch.randn(12, 3, 2, 24), torch.randn(12, 2, 24)
    settings = {"max_seqlen": 9, "mask": "causal", "scale": 0.2, "dropout": 0.3, "seed": seed}
    leaf = fused.clone().requires_grad_()
    (together,) = torch.autograd.grad(packed_self_attention(leaf, cu, **settings), leaf, dout)
    apart = run(lambda *qkv: packed_attention(*qkv, cu, **settings), fused, dout)[1:]
    assert torch.equal(together, torch.stack(apart, dim=1))


def test_strided_bounds_and_gradient(seed: Tensor) -> None:
    cu = torch.tensor([0, 9, 12], dtype=torch.int32)
    settings = {"max_seqlen": 9, "mask": "asymmetric", "scale": 0.2, "dropout": 0.3, "seed": seed}
    results = []
    for bounds, dout in (
        (cu, torch.ones(12, 2, 24)),
        (cu.repeat_interleave(2)[::2], torch.ones(()).expand(12, 2, 24)),
    ):
        torch.manual_seed(0)
        leaf = torch.randn(12, 3, 2, 24).requires_grad_()
        out = packed_self_attention(leaf, bounds, **settings)
        results.append((out.detach(), *torch.autograd.grad(out, leaf, dout)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_large_scores_stay_finite(no_worse: Callable[..., None]) -> None:
    q = torch.full((6, 1, 16), 30.0)
    q[::2] *= -1
    cu = torch.tensor([0, 4, 6], dtype=torch.int32)
    out = packed_attention(q, q, q, cu, max_seqlen=4, mask="asymmetric", scale=10.0)
    gold = packed_attention_reference(*(q.double(),) * 3, cu, 4, "asymmetric", 10.0)
    no_worse("out", out, gold, packed_attention_reference(q, q, q, cu, 4, "asymmetric", 10.0))


def test_other_segments_are_never_read(no_worse: Callable[..., None]) -> None:
    x = torch.randn(12, 1, 16)
    x[5:] = float("nan")
    cu = torch.tensor([0, 5, 12], dtype=torch.int32)
    out = packed_attention(x, x, x, cu, max_seqlen=40, mask="symmetric", scale=1.0)
    assert torch.isfinite(out[:5]).all()


def test_head_sizes_the_kernels_do_not_take() -> None:
    x = torch.randn(3, 1, 12)
    cu = torch.tensor([0, 3], dtype=torch.int32)
    out = packed_attention(x, x, x, cu, max_seqlen=3, mask="symmetric", scale=1.0)
    torch.testing.assert_close(out, packed_attention_reference(x, x, x, cu, 3, "symmetric", 1.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ODMT_FAST_BACKEND", "triton")
        with pytest.raises(RuntimeError, match="head size must be a multiple of 8"):
            packed_attention(x, x, x, cu, max_seqlen=3, mask="symmetric", scale=1.0)
