"""Fixtures of the C++ kernel tests: instruction sets, thread counts, and the precision rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing

ISAS = ("baseline", "avx2", "avx512", "amx")

if extension_missing("cpu") is not None:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on every instruction set that was built and that this CPU has."""
    from odmt_fast import _C

    best = _C.isa()
    if not _C.use_isa(request.param):
        pytest.skip(f"{request.param} is not built, or this CPU does not have it")
    yield request.param
    _C.use_isa(best)


@pytest.fixture
def on_threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads; restored afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def seed() -> Tensor:
    return torch.tensor([0x1234_5678_9ABC_DEF0], dtype=torch.int64)


@pytest.fixture
def no_worse() -> Callable[[str, Tensor, Tensor, Tensor], None]:
    """max |got - gold| <= 2 max |naive - gold| + floor; gold in float64, naive in got's dtype."""

    def check(name: str, got: Tensor, gold: Tensor, naive: Tensor) -> None:
        assert got.shape == gold.shape, name
        assert bool(got.isfinite().all()), f"{name} is not finite"
        if got.numel() == 0:
            return
        size = float(gold.abs().max())
        # A few roundings of the largest value, for sums in another order.
        floor = 1e-6 + torch.finfo(got.dtype).eps * size * (8 if got.dtype == torch.float32 else 1)
        error = float((got.double() - gold).abs().max())
        allowed = 2 * float((naive.double() - gold).abs().max()) + floor
        assert error <= allowed, f"{name}: error {error:.3g} beyond {allowed:.3g} (size {size:.3g})"

    return check
