"""The custom ops of the Triton kernels, in the interpreter: what torch.compile asks of an op."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.packed_attention import packed_attention, packed_self_attention
from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.residual_norm import residual_norm

pytestmark = pytest.mark.interpreter

CU = torch.tensor([0, 5, 5, 6], dtype=torch.int32)
SETTINGS = {"max_seqlen": 5, "mask": "asymmetric", "scale": 0.2, "dropout": 0.3}


def leaves(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(shape).requires_grad_() for shape in shapes)


CASES: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "dropout": (lambda seed, x: dropout(x, 0.3, seed), ((6, 24),)),
    "residual_norm": (
        lambda seed, *t: residual_norm(*t, eps=1e-6, dropout=0.3, seed=seed),
        ((6, 24), (6, 24), (2, 24), (2, 24)),
    ),
    "packed_attention": (
        lambda seed, *t: packed_attention(*t, CU, seed=seed, **SETTINGS),
        ((6, 2, 24),) * 3,
    ),
    "packed_self_attention": (
        lambda seed, x: packed_self_attention(x, CU, seed=seed, **SETTINGS),
        ((6, 3, 2, 24),),
    ),
    "readout_attention": (
        lambda seed, *t: readout_attention(*t, CU, seed=seed, **SETTINGS),
        ((3, 3, 2, 24), (6, 24)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_compiled_equals_eager(name: str, seed: Tensor) -> None:
    function, shapes = CASES[name]
    results = []
    for run in (function, torch.compile(function, fullgraph=True, backend="aot_eager")):
        tensors = leaves(*shapes)
        out = run(seed, *tensors)
        results.append((out, *torch.autograd.grad(out.square().sum(), tensors)))
    for eager, graph in zip(*results, strict=True):
        assert torch.equal(eager, graph)


@pytest.mark.parametrize("name", CASES)
def test_opcheck(name: str, seed: Tensor) -> None:
    tensors = leaves(*CASES[name][1])
    packed = (*tensors, CU, seed, 5, "asymmetric", 0.2, 0.3)
    arguments = {
        "dropout": (*tensors, seed, 0.3, 2, "triton"),
        "residual_norm": (*tensors, seed, 1e-6, 0.3, "triton"),
        "readout_attention": (*packed, "triton"),
    }.get(name, (*packed, 1, "triton"))
    torch.library.opcheck(getattr(torch.ops.odmt_fast, name).default, arguments)
