"""Every operator that drops: consecutive parts have the noise that they have in the whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.packed_attention import LONGEST_SEGMENT, packed_attention
from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.residual_norm import residual_norm

LENGTHS = torch.tensor([3, 5, 1, 4])
CUT = 2
"""Segments of the first part."""
TOKENS = int(LENGTHS[:CUT].sum())
HEADS, WIDTH = 2, 12

dtypes = pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(torch.float64, id="reference"),
        pytest.param(torch.float32, id="compiled"),
        pytest.param(torch.float32, id="interpreted", marks=pytest.mark.interpreter),
    ],
)


def offsets(lengths: Tensor) -> Tensor:
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()


def check(
    function: Callable[[Tensor, Tensor, Tensor], Tensor],
    x: Tensor,
    cut: int,
    seed: Tensor,
    elements: int,
) -> None:
    """function(x, lengths, seed) of two parts and its gradient are those of the whole.

    Args:
        cut: rows of x in the first part.
        elements: that it draws.
    """
    later = torch.cat((seed, torch.tensor([elements])))
    parts = [(x[:cut], LENGTHS[:CUT], seed), (x[cut:], LENGTHS[CUT:], later)]
    whole, *halves = (part.detach().requires_grad_() for part in (x, x[:cut], x[cut:]))
    y = function(whole, LENGTHS, seed)
    first, second = (function(half, *part[1:]) for half, part in zip(halves, parts, strict=True))
    torch.testing.assert_close(torch.cat((first, second)), y, rtol=1e-6, atol=1e-6)
    grad = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    y.backward(grad)
    first.backward(grad[: len(first)])
    second.backward(grad[len(first) :])
    assert whole.grad is not None
    gradients = [half.grad for half in halves if half.grad is not None]
    torch.testing.assert_close(torch.cat(gradients), whole.grad, rtol=1e-5, atol=1e-5)


@dtypes
def test_dropout(dtype: torch.dtype, seed: Tensor) -> None:
    x = torch.randn(11, WIDTH, dtype=dtype)
    check(lambda x, _, seed: dropout(x, 0.4, seed), x, 7, seed, 7 * WIDTH)


@dtypes
@pytest.mark.parametrize("width", [WIDTH, 6])
def test_residual_norm(dtype: torch.dtype, width: int, seed: Tensor) -> None:
    weight = torch.ones(width, dtype=dtype)

    def function(x: Tensor, _: Tensor, seed: Tensor) -> Tensor:
        return residual_norm(x, x.flip(1), weight, weight, eps=1e-6, dropout=0.4, seed=seed)

    check(function, torch.randn(11, width, dtype=dtype), 6, seed, 6 * width)


@dtypes
def test_packed_attention(dtype: torch.dtype, seed: Tensor) -> None:
    def function(x: Tensor, lengths: Tensor, seed: Tensor) -> Tensor:
        return packed_attention(
            *x.unbind(1),
            offsets(lengths),
            max_seqlen=5,
            mask="symmetric",
            scale=0.3,
            dropout=0.4,
            seed=seed,
        )

    x = torch.randn(int(LENGTHS.sum()), 3, HEADS, WIDTH // HEADS, dtype=dtype)
    check(function, x, TOKENS, seed, TOKENS * HEADS * LONGEST_SEGMENT)


@dtypes
def test_readout_attention(dtype: torch.dtype, seed: Tensor) -> None:
    hidden = torch.randn(int(LENGTHS.sum()), WIDTH, dtype=dtype)

    def function(queries: Tensor, lengths: Tensor, seed: Tensor) -> Tensor:
        rows = int(lengths.sum())
        return readout_attention(
            queries,
            hidden[:rows] if len(seed) == 1 else hidden[-rows:],
            offsets(lengths),
            max_seqlen=5,
            mask="symmetric",
            scale=0.3,
            dropout=0.4,
            seed=seed,
        )

    queries = torch.randn(len(LENGTHS), 3, HEADS, WIDTH, dtype=dtype)
    check(function, queries, CUT, seed, CUT * 3 * HEADS * LONGEST_SEGMENT)
