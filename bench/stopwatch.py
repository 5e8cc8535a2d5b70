"""A clock for pytest-benchmark that sees a device's time and not the host's."""

from __future__ import annotations

import time
from functools import cache
from statistics import median, quantiles
from typing import Any

import torch

FLUSH_BYTES = 512 * 2**20
SPIN_CYCLES = 6_000_000


class Mark:
    """A moment in the device's queue; the difference of two is their distance in seconds."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)
        self.event.record()

    def __sub__(self, earlier: Mark) -> float:
        self.event.synchronize()
        return 1e-3 * float(earlier.event.elapsed_time(self.event))


def clock() -> Any:
    """Now: a `Mark` in the queue where there is a GPU, else seconds."""
    return Mark() if torch.cuda.is_available() else time.perf_counter()


def lead() -> None:
    """What precedes a round: on CUDA a write of 512 MiB, which leaves nothing of use in L2, and a
    spin of about 3 ms, while which the host queues the round."""
    if torch.cuda.is_available():
        _flush().zero_()
        torch.cuda._sleep(SPIN_CYCLES)


@cache
def _flush() -> torch.Tensor:
    return torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")


def spread(seconds: list[float]) -> dict[str, float]:
    """Milliseconds: median, 20th and 80th percentile."""
    fifths = quantiles(seconds, n=5, method="inclusive") if len(seconds) > 1 else seconds
    return {"ms": 1e3 * median(seconds), "p20": 1e3 * fifths[0], "p80": 1e3 * fifths[-1]}
