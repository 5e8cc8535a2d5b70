"""Products of float8 on a GPU: what it multiplies is what is emulated elsewhere."""

from __future__ import annotations

import pytest
import torch

from odmt_fast.kernels.linear import float8_linear
from odmt_fast.kernels.linear.float8 import float8_missing, product

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _has_float8(device: torch.device) -> None:
    if missing := float8_missing(device):
        pytest.skip(missing)


@pytest.mark.parametrize("rows", [1, 17, 4096])
@pytest.mark.parametrize(("inner", "outer"), [(768, 2304), (3072, 768), (48, 16)])
def test_products_are_those_of_the_rounded_operands(
    rows: int, inner: int, outer: int, device: torch.device
) -> None:
    torch.manual_seed(0)
    a, b = torch.randn(rows, inner), torch.randn(outer, inner)
    a, b = a.bfloat16(), b.bfloat16()
    got = product(a.to(device), b.to(device)).cpu().float()
    expected = product(a.float(), b.float())
    assert float((got - expected).norm() / expected.norm()) < 4e-3


def test_the_gradients_too(device: torch.device) -> None:
    torch.manual_seed(0)
    given = torch.randn(300, 768).bfloat16(), torch.randn(3072, 768), torch.randn(3072)
    results = []
    for where in (torch.device("cpu"), device):
        leaves = [t.to(where).requires_grad_() for t in given]
        y = float8_linear(*leaves)
        gradients = torch.autograd.grad(y, leaves, torch.ones_like(y))
        results.append([t.detach().cpu().float() for t in (y, *gradients)])
    for got, expected in zip(*results, strict=True):
        assert float((got - expected).norm() / expected.norm()) < 1e-2
