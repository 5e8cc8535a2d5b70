"""The linear map in float8, as it is rounded and multiplied without a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from odmt_fast.config import TrainingConfig
from odmt_fast.kernels.linear import float8_linear, linear
from odmt_fast.kernels.linear.float8 import FLOAT8, float8_missing, product, rounded
from odmt_fast.training.precision import check_float8

CPU = torch.device("cpu")


def leaves(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """x, W, b; rows of x differ in size by 1e8."""
    torch.manual_seed(0)
    x = torch.randn(24, 32) * torch.logspace(-4, 4, 24)[:, None]
    tensors = x.to(dtype), torch.randn(16, 32), torch.randn(16)
    return tuple(t.requires_grad_() for t in tensors)  # type: ignore[return-value]


def test_every_row_is_scaled_to_its_largest() -> None:
    x = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 0.0], [3e-30, 1e-30, 0.0], [7e30, -7e30, 1e20]])
    narrow, scale = rounded(x)
    assert narrow.dtype == FLOAT8 and scale.shape == (4, 1)
    assert narrow.float().abs().amax(1).tolist() == [448, 0, 448, 448]
    back = narrow.float() * scale
    assert torch.equal(back[1], x[1])
    # Three bits of mantissa, as far as e4m3 has exponents below the largest.
    kept = (x.abs() > x.abs().amax(1, keepdim=True) * 2**-14) & (x != 0)
    assert ((back - x).abs()[kept] <= x.abs()[kept] * 2**-4).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    x = torch.ones(2, 32)
    x[0, 3] = bad
    y = product(x, torch.ones(4, 32))
    assert not torch.isfinite(y[0]).any() and torch.isfinite(y[1]).all()


def back(x: Tensor) -> Tensor:
    """What is left of x."""
    narrow, scale = rounded(x)
    return (narrow.float() * scale).double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_it_is_the_linear_map_of_rounded_operands(dtype: torch.dtype) -> None:
    x, w, b = leaves(dtype)
    y = float8_linear(x, w, b)
    dy = torch.linspace(-1, 1, y.numel()).view_as(y).to(dtype)
    results = y.detach(), *torch.autograd.grad(y, (x, w, b), dy)
    xs, narrow = x.detach(), w.detach().to(dtype)
    expected = (
        back(xs) @ back(narrow).t() + b.detach().to(dtype).double(),
        back(dy) @ back(narrow.t()).t(),
        dy.double().t() @ xs.double(),
        dy.double().sum(0),
    )
    eps = 4 * torch.finfo(dtype).eps
    for name, got, exact in zip(("y", "dx", "dW", "db"), results, expected, strict=True):
        assert got.dtype == (dtype if name in ("y", "dx") else torch.float32), name
        away = (got - exact).norm(dim=-1) / exact.norm(dim=-1)
        assert float(away.max()) < eps, name
    # Every row by itself: with one scale for the whole tensor the small ones would be lost.
    plain = linear(x, w).detach()
    away = (float8_linear(x, w).detach() - plain).float().norm(dim=1) / plain.float().norm(dim=1)
    assert float(away.min()) > 0.005 and float(away.max()) < 0.1


def test_what_does_not_fit_is_refused() -> None:
    x, w, b = leaves()
    with pytest.raises(ValueError, match=r"weight must be \[b, a\], got \[2, 16, 32\]"):
        float8_linear(x, torch.stack([w, w]))
    with pytest.raises(ValueError, match="bias must be"):
        float8_linear(x, w, b[:3])


def test_where_training_refuses_it() -> None:
    assert "need a GPU, got cpu" in str(float8_missing(CPU))
    check_float8(TrainingConfig(), CPU)
    with pytest.raises(ValueError, match="goes with training.precision=bf16, got fp32"):
        check_float8(TrainingConfig(float8=True, precision="fp32"), CPU)
    with pytest.raises(
        ValueError, match="float8=True: products of float8 need a GPU.*--set training.float8=false"
    ):
        check_float8(TrainingConfig(float8=True, precision="bf16"), CPU)
