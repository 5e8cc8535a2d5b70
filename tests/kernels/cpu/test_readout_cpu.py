"""readout_attention in C++ against its law in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.readout_attention import cpu
from odmt_fast.kernels.readout_attention.reference import readout_attention_reference

NoWorse = Callable[[str, Tensor, Tensor, Tensor], None]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
NAMES = ("out", "dqueries", "dhidden")


def cumulate(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).int()


def make(
    lengths: list[int], readouts: int, heads: int, d: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """(queries, hidden, dout)."""
    g = torch.Generator().manual_seed(sum(lengths) * d)
    queries, dout = (
        torch.randn(len(lengths), readouts, heads, d, generator=g).to(dtype) for _ in range(2)
    )
    return queries, torch.randn(sum(lengths), d, generator=g).to(dtype), dout


def run(
    tensors: tuple[Tensor, Tensor, Tensor], lengths: list[int], mask: str, p: float, seed: Tensor
) -> list[Tensor]:
    queries, hidden, dout = tensors
    settings = (cumulate(lengths), max(lengths), mask, hidden.shape[1] ** -0.5, p, seed)
    out, saved = cpu.forward(queries, hidden, *settings)
    return [out, *cpu.backward(dout, queries, hidden, *settings, saved)]


def law(
    tensors: tuple[Tensor, Tensor, Tensor], lengths: list[int], mask: str, p: float, seed: Tensor,
    dtype: torch.dtype,
) -> list[Tensor]:  # fmt: skip
    queries, hidden, dout = (t.to(dtype) for t in tensors)
    leaves = [t.detach().requires_grad_() for t in (queries, hidden)]
    out = readout_attention_reference(
        *leaves, cumulate(lengths), max(lengths), mask, hidden.shape[1] ** -0.5, p, seed
    )
    return [out.detach(), *torch.autograd.grad(out, leaves, dout)]


@DTYPES
@pytest.mark.parametrize(
    "lengths, readouts, heads, d, mask, p",
    [
        ([1], 1, 1, 8, "symmetric", 0.0),
        ([3, 1, 17, 4], 3, 2, 33, "asymmetric", 0.1),
        ([81, 0, 51, 66], 3, 2, 96, "asymmetric", 0.1),
        ([100, 16], 4, 3, 64, "symmetric", 0.0),
    ],
    ids=str,
)
def test_forward_and_backward(
    isa: str, lengths: list[int], readouts: int, heads: int, d: int, mask: str, p: float,
    dtype: torch.dtype, seed: Tensor, no_worse: NoWorse,
) -> None:  # fmt: skip
    tensors = make(lengths, readouts, heads, d, dtype)
    got = run(tensors, lengths, mask, p, seed)
    gold = law(tensors, lengths, mask, p, seed, torch.float64)
    naive = law(tensors, lengths, mask, p, seed, dtype)
    for name, a, b, c in zip(NAMES, got, gold, naive, strict=True):
        no_worse(name, a, b, c)


def test_a_readout_without_keys_is_zero(isa: str, seed: Tensor) -> None:
    """asymmetric, one token: only the last readout has something to read."""
    tensors = make([1], 3, 2, 24, torch.float32)
    out, dqueries, _ = run(tensors, [1], "asymmetric", 0.0, seed)
    assert bool((out[:, :2] == 0).all()) and bool((dqueries[:, :2] == 0).all())
    torch.testing.assert_close(out[0, 2, 0], tensors[1][0])


@DTYPES
def test_threads_do_not_matter(
    on_threads: Callable[[int], None], dtype: torch.dtype, seed: Tensor
) -> None:
    lengths = [1 + i * 7 % 60 for i in range(40)]
    tensors = make(lengths, 3, 2, 64, dtype)
    on_threads(1)
    one = run(tensors, lengths, "asymmetric", 0.1, seed)
    on_threads(2)
    two = run(tensors, lengths, "asymmetric", 0.1, seed)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
