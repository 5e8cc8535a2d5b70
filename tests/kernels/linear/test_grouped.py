"""Grouped linear maps without the extension: as autograd would have it, but for a copy less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accuracy import assert_no_worse
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from odmt_fast.kernels.linear import op
from odmt_fast.kernels.linear.grouped import grouped_linear
from odmt_fast.kernels.linear.reference import linear_reference
from odmt_fast.models.block import Block


@pytest.fixture(autouse=True)
def no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op, "extension_missing", lambda _: "as on a GPU")
    monkeypatch.delenv("ODMT_FAST_BACKEND", raising=False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 9, 16, 64), (2, 70, 33, 5), (1, 1, 8, 8), (3, 700, 8, 8)])
def test_no_worse_than_twice_the_eager_error(
    with_gradients: Callable[..., list[Tensor]],
    shape: tuple[int, int, int, int],
    bias: bool,
    dtype: torch.dtype,
) -> None:
    groups, rows, inner, outer = shape
    torch.manual_seed(rows)
    shapes = [(groups * rows, inner), (groups, outer, inner), (groups, outer)][: 2 + bias]
    tensors = [torch.randn(s, dtype=torch.float64).to(dtype).double() for s in shapes]

    def ours(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return grouped_linear(x, weight, bias)

    names = ("y", "dx", "dW", "db")
    if dtype != torch.float64:
        assert_no_worse(names, ours, linear_reference, tensors, dtype, with_gradients)
        return
    got, exact = (with_gradients(function, tensors, dtype) for function in (ours, linear_reference))
    for name, a, b in zip(names, got, exact, strict=False):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("groups", [None, 3])
def test_no_weight_gradient_is_copied_to_its_parameter(
    groups: int | None, dtype: torch.dtype
) -> None:
    block = Block(16, 2, groups)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.1)
    x = torch.randn(12, 16, dtype=dtype)
    cu_seqlens = torch.tensor([0, 4, 8, 12], dtype=torch.int32)
    silent = {"dropout": 0.0, "seed": None}
    loss = block(x, cu_seqlens, max_seqlen=4, mask="causal", sites=(silent, silent, silent)).sum()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        loss.backward()
    accumulated = [e for e in recorded.events() if "AccumulateGrad" in e.name]
    assert len(accumulated) >= len(list(block.parameters()))
    for event in accumulated:
        assert not {child.name for child in event.cpu_children} & {"aten::clone", "aten::copy_"}
