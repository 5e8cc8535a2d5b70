"""dropout in C++: the exact mask of the law, on every instruction set, at any size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.dropout import cpu
from odmt_fast.kernels.dropout.reference import dropout_reference, philox


def test_the_law_is_philox_4x32_7() -> None:
    """Known answer of Random123 (kat_vectors: philox4x32 7, all zero)."""
    expected = ["5f6fb709", "0d893f64", "4f121f81", "4f730a48"]
    words = philox(torch.zeros((), dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    assert [f"{word:08x}" for word in words.flatten().tolist()] == expected


@pytest.mark.parametrize("n", [1, 3, 15, 16, 31, 33, 4095, 4097, 20_003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_mask_and_values(isa: str, n: int, dtype: torch.dtype, seed: Tensor) -> None:
    x = torch.randn(n, generator=torch.Generator().manual_seed(n)).to(dtype)
    got, expected = cpu.apply(x, 0.3, seed, 1), dropout_reference(x.double(), 0.3, seed)
    assert torch.equal(got == 0, expected == 0)
    torch.testing.assert_close(got, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("n", [0, 1, 3, 16, 33, 4097])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_groups(isa: str, n: int, dtype: torch.dtype, seed: Tensor) -> None:
    x = torch.randn(3, n, generator=torch.Generator().manual_seed(n)).to(dtype)
    got, expected = cpu.apply(x, 0.3, seed, 3), dropout_reference(x.double(), 0.3, seed, 3)
    assert torch.equal(got == 0, expected == 0)
    torch.testing.assert_close(got, expected.to(dtype), rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("value", [0, 1, -1, 2**32, -(2**63), 2**63 - 1])
@pytest.mark.parametrize("p", [1e-9, 0.5, 0.999])
def test_every_seed_and_rate(value: int, p: float) -> None:
    x, seed = torch.ones(1000), torch.tensor([value])
    assert torch.equal(cpu.apply(x, p, seed, 1) == 0, dropout_reference(x, p, seed) == 0)


def test_threads_do_not_matter(on_threads: Callable[[int], None], seed: Tensor) -> None:
    x = torch.randn(100_001)
    on_threads(1)
    one = cpu.apply(x, 0.1, seed, 1)
    on_threads(2)
    assert torch.equal(cpu.apply(x, 0.1, seed, 1), one)


def test_the_rate_is_kept(seed: Tensor) -> None:
    kept = float((cpu.apply(torch.ones(1_000_000), 0.1, seed, 1) != 0).float().mean())
    assert abs(kept - 0.9) < 0.0015  # five standard deviations
