"""Fixtures of the C++ kernel tests: instruction sets, thread counts, and the precision rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from accuracy import assert_within, error, largest
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
    """The accuracy rule, with room for a few roundings more: sums in another order."""

    def check(name: str, got: Tensor, gold: Tensor, naive: Tensor) -> None:
        roundings = 8 if got.dtype == torch.float32 else 1
        floor = 1e-6 + torch.finfo(got.dtype).eps * roundings * float(largest(gold))
        assert_within(name, got, gold, [error(naive, gold)], floor=floor)

    return check
