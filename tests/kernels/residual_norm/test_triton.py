"""The residual_norm kernels in Triton's interpreter against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.residual_norm import residual_norm
from odmt_fast.kernels.residual_norm.reference import residual_norm_reference

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_empty")]

EPS = 1e-6
NAMES = ("out", "dx", "dresidual", "dweight", "dbias")


def run(function: Callable[..., Tensor], tensors: list[Tensor], dout: Tensor) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in tensors]
    out = function(*leaves)
    return (out.detach(), *torch.autograd.grad(out, leaves, dout))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(
    ("rows", "d", "groups"),
    [(7, 768, 1), (12, 50, 3), (5, 123, 1), (1, 16, 1), (6, 8, 6), (33, 4, 1)],
    ids=str,
)
def test_no_worse_than_eager(
    rows: int,
    d: int,
    groups: int,
    p: float,
    dtype: torch.dtype,
    seed: Tensor,
    no_worse: Callable[..., None],
) -> None:
    torch.manual_seed(rows)
    data = [torch.randn(rows, d).to(dtype) for _ in range(2)]
    weights = [torch.randn((groups, d) if groups > 1 else (d,)) for _ in range(2)]
    tensors, dout = [*data, *weights], torch.randn(rows, d).to(dtype)

    def kernel(*t: Tensor) -> Tensor:
        return residual_norm(*t, eps=EPS, dropout=p, seed=seed)

    def reference(*t: Tensor) -> Tensor:
        return residual_norm_reference(*t, EPS, p, seed)

    got = run(kernel, tensors, dout)
    again = run(kernel, tensors, dout)
    naive = run(reference, tensors, dout)
    gold = run(reference, [t.double() for t in tensors], dout.double())
    for name, *values in zip(NAMES, got, gold, naive, strict=True):
        no_worse(name, *values)
    for a, b in zip(got, again, strict=True):
        assert torch.equal(a, b)


def test_large_offset_does_not_cancel(no_worse: Callable[..., None]) -> None:
    x = torch.randn(4, 64) + 1000
    tensors = [x, torch.zeros_like(x), torch.ones(64), torch.zeros(64)]
    out = residual_norm(*tensors, eps=EPS)
    gold = residual_norm_reference(*(t.double() for t in tensors), EPS)
    no_worse("out", out, gold, residual_norm_reference(*tensors, EPS))


def test_strided_inputs_and_gradient(seed: Tensor) -> None:
    tensors = [torch.randn(8, 40)[::2, :20], torch.randn(20, 4).T, *torch.randn(2, 40)[:, ::2]]
    dout = torch.randn(20, 1).expand(20, 4).T

    def kernel(*t: Tensor) -> Tensor:
        return residual_norm(*t, eps=EPS, dropout=0.3, seed=seed)

    def reference(*t: Tensor) -> Tensor:
        return residual_norm_reference(*t, EPS, 0.3, seed)

    for a, b in zip(run(kernel, tensors, dout), run(reference, tensors, dout), strict=True):
        torch.testing.assert_close(a, b)


def test_no_rows() -> None:
    weight, bias = torch.randn(20), torch.randn(20)
    nothing = torch.ones(0, 20, requires_grad=True)
    residual_norm(nothing, nothing, weight.requires_grad_(), bias, eps=EPS).sum().backward()
    assert torch.equal(weight.grad, torch.zeros(20))
