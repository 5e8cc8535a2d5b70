"""The dropout kernel in Triton's interpreter: bit for bit the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.dropout.reference import dropout_reference

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_empty")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("p", [0.1, 0.5, 1e-9])
@pytest.mark.parametrize("shape", [(5, 1003), (1,), (2, 3, 4)], ids=str)
def test_equals_reference(
    shape: tuple[int, ...], p: float, dtype: torch.dtype, seed: Tensor
) -> None:
    x = torch.randn(shape).to(dtype).requires_grad_()
    y = dropout(x, p, seed)
    assert torch.equal(y, dropout_reference(x, p, seed))
    dy = torch.randn(shape).to(dtype)
    (dx,) = torch.autograd.grad(y, x, dy)
    assert torch.equal(dx, dropout_reference(dy, p, seed))


@pytest.mark.parametrize("n", [1, 7, 24, 2051])
def test_groups(n: int, seed: Tensor) -> None:
    x = torch.randn(3, n)
    assert torch.equal(dropout(x, 0.3, seed, 3), dropout_reference(x, 0.3, seed, 3))


def test_strided_input(seed: Tensor) -> None:
    x = torch.randn(40, 24)[::2, 3:].T
    assert torch.equal(dropout(x, 0.3, seed), dropout_reference(x.contiguous(), 0.3, seed))


def test_empty(seed: Tensor) -> None:
    assert dropout(torch.ones(0, 4), 0.3, seed).shape == (0, 4)
