"""What the launchers know of a device: its architecture, shared memory and multiprocessors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

import torch
from torch import Tensor

Config = TypeVar("Config")


@dataclass(frozen=True)
class Device:
    """A GPU as far as tile sizes depend on it."""

    architecture: int  # compute capability, major * 10 + minor
    shared_bytes: int  # largest shared memory of one program
    processors: int


# By architecture: CUDA C++ programming guide, "technical specifications per compute capability".
KNOWN = {
    75: Device(75, 64 * 1024, 40),
    80: Device(80, 163 * 1024, 108),
    86: Device(86, 99 * 1024, 84),
    89: Device(89, 99 * 1024, 128),
    90: Device(90, 227 * 1024, 132),
    100: Device(100, 227 * 1024, 148),
}
# Few processors: the interpreter runs one program after the other.
INTERPRETER = Device(90, 227 * 1024, 2)

_assumed: list[Device] = []


@contextmanager
def assume(device: Device) -> Iterator[None]:
    """Launchers take meta tensors to be on `device`; used to compile ahead of time."""
    _assumed.append(device)
    try:
        yield
    finally:
        _assumed.pop()


@cache
def _cuda_device(index: int) -> Device:
    from triton.runtime import driver

    major, minor = torch.cuda.get_device_capability(index)
    # The limits that Triton itself checks a launch against.
    limits = driver.active.utils.get_device_properties(index)
    return Device(major * 10 + minor, limits["max_shared_mem"], limits["multiprocessor_count"])


def device_at(device: torch.device) -> Device:
    """The device a kernel on tensors of `device` runs on; for the CPU that is the interpreter."""
    if device.type == "meta":
        return _assumed[-1]
    if device.type != "cuda":
        return INTERPRETER
    return _cuda_device(device.index)


def device_of(x: Tensor) -> Device:
    """The device a kernel on x runs on."""
    return device_at(x.device)


def on_device_of(x: Tensor) -> AbstractContextManager[object]:
    """Kernels are launched on the current device; within this context that is x's."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def dot_precision(x: Tensor) -> str:
    """How tl.dot multiplies float32: by three TF32 products, accurate as float32, where it can."""
    return "ieee" if device_of(x).architecture < 80 else "tf32x3"


@dataclass(frozen=True)
class Entry(Generic[Config]):
    """One line of a table of tiles.

    Attributes:
        longest: the longest segment it serves.
        config: the tile or tiles.
        shared_kib: shared memory it takes at most, as compiled ahead of time (docs/kernels_aot.md).
        architecture: the first architecture it is meant for.
    """

    longest: int
    config: Config
    shared_kib: int
    architecture: int = 0


def _fitting(
    table: Sequence[Entry[Config]], length: int, device: Device, share: float
) -> list[Entry[Config]]:
    longest = min(entry.longest for entry in table if length <= entry.longest)
    return [
        entry
        for entry in table
        if entry.longest == longest
        and entry.architecture <= device.architecture
        and entry.shared_kib * 1024 * share <= device.shared_bytes
    ]


def no_room(
    table: Sequence[Entry[Config]], length: int, device: Device, share: float = 1.0
) -> str | None:
    """Why `first_fitting` would find nothing; None when it finds an entry."""
    if _fitting(table, length, device, share):
        return None
    return (
        f"no tile for segments of {length} tokens fits sm_{device.architecture} with "
        f"{device.shared_bytes} bytes of shared memory"
    )


def first_fitting(
    table: Sequence[Entry[Config]], length: int, device: Device, share: float = 1.0
) -> Config:
    """The first entry, best first, that serves `length` and that the device has room for.

    Args:
        table: entries by `longest`, of equal ones the best first and the smallest last.
        length: longest segment.
        device: gives architecture and shared memory.
        share: factor on `shared_kib` for shapes larger than the table was made with.

    Raises:
        RuntimeError: not even the smallest fits.
    """
    fitting = _fitting(table, length, device, share)
    if not fitting:
        raise RuntimeError(
            f"{no_room(table, length, device, share)}; set ODMT_FAST_BACKEND=reference"
        )
    return fitting[0].config
