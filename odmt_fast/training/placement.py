"""Where the tokens of a run lie, and how many threads make its batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from odmt_fast.config import Config, Residency
from odmt_fast.features.resident import ResidentTable, source_bytes
from odmt_fast.features.tokens import BatchSource, TokenSource
from odmt_fast.models import SequentialModel

Place = Literal["device", "pinned", "mmap"]

# Of free memory, that tokens may take by themselves: the rest is for weights and activations, on
# the host for whatever else runs there.
_SHARE = 0.5
# Threads that gather tokens and copy them, and threads that only make index arrays.
_FEWEST_GATHERING, _MOST_GATHERING, _INDEXING = 4, 8, 2


class Machine(NamedTuple):
    """What decides, as one process of a run sees it.

    Attributes:
        device: type of the training device.
        free_device: bytes free on it.
        free_host: bytes of memory that this machine can still hand out; 0 where that is not known.
        cores: of the machine.
        processes: of the run, which share host and cores.
    """

    device: str
    free_device: int
    free_host: int
    cores: int
    processes: int = 1

    @classmethod
    def here(cls, device: torch.device, processes: int = 1) -> Machine:
        """Asks."""
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return cls(device.type, free, free_host_bytes(), cores or 1, processes)


class Placement(NamedTuple):
    """What was chosen."""

    residency: Place
    workers: int

    def __str__(self) -> str:
        place = {
            "device": "in the device's memory",
            "pinned": "in page-locked host memory, read by the GPU",
            "mmap": "gathered from the mapped stores",
        }[self.residency]
        return f"tokens are {place} (features.residency={self.residency}), {self.workers} workers"


def placed(residency: Residency, workers: int | None, size: int, machine: Machine) -> Placement:
    """A function of its arguments alone.

    Args:
        residency: ``features.residency``.
        workers: ``training.workers``.
        size: bytes of all tokens; 0 where the model reads none.
        machine: that trains.

    Raises:
        ValueError: what is asked for does not fit, or needs a GPU.
    """
    place = _place(residency, size, machine)
    if workers is None:
        workers = _workers(place, size, machine)
    return Placement(place, workers)


def _place(residency: Residency, size: int, machine: Machine) -> Place:
    on_gpu = machine.device == "cuda"
    if residency == "pinned" and not on_gpu:
        raise ValueError(
            f"features.residency='pinned' needs a GPU that reads host memory, not "
            f"{machine.device}; use 'device' (here: in memory), 'mmap' or 'auto'"
        )
    host = machine.free_host // machine.processes
    room = {"device": machine.free_device if on_gpu else host, "pinned": host}
    if 0 < room.get(residency, 0) < size:
        raise ValueError(
            f"features.residency={residency!r} needs {size / 1e9:.1f} GB, "
            f"{room[residency] / 1e9:.1f} GB are free; use 'auto' or 'mmap'"
        )
    if residency != "auto":
        return residency
    if not on_gpu or size == 0:
        return "mmap"
    if size <= _SHARE * room["device"]:
        return "device"
    return "pinned" if size <= _SHARE * host else "mmap"


def _workers(place: Place, size: int, machine: Machine) -> int:
    if machine.device != "cuda":
        return 0
    share = max(1, machine.cores // machine.processes - 1)  # one runs the step
    if place == "mmap" and size:
        return max(_FEWEST_GATHERING, min(_MOST_GATHERING, share))
    return min(_INDEXING, share)


def placement_of(
    config: Config, sources: Sequence[TokenSource], device: torch.device, processes: int = 1
) -> Placement:
    """Of a run of `config` here."""
    return placed(
        config.features.residency,
        config.training.workers,
        sum(map(source_bytes, sources)),
        Machine.here(device, processes),
    )


def batch_sources(
    sources: Sequence[TokenSource], place: Place, device: torch.device
) -> Sequence[BatchSource]:
    """What batches get their tokens from; reads all of them unless they stay in the stores."""
    if place == "mmap":
        return sources
    return [ResidentTable.of(source, device, pinned=place == "pinned") for source in sources]


@contextmanager
def reading(model: nn.Module, sources: Sequence[BatchSource]) -> Iterator[None]:
    """Within it a `SequentialModel` encodes its catalogue, for validation, from these."""
    if not isinstance(model, SequentialModel):
        yield
        return
    before, model.read_from = model.read_from, tuple(sources)
    try:
        yield
    finally:
        model.read_from = before


def free_host_bytes() -> int:
    """Memory that can be taken without swapping, within the control group's limit; 0: unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text())
        return min(free, max(0, most - int((group / "memory.current").read_text())))
    except (OSError, ValueError):  # no group, or "max"
        return free
