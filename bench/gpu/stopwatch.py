"""Times of queued work: CUDA events behind a spin, or a clock on the CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

FLUSH_BYTES = 512 * 2**20
SPIN_CYCLES = 6_000_000


@dataclass(frozen=True)
class Times:
    """Milliseconds: median and the 20th and 80th percentile of the rounds."""

    ms: float
    p20: float
    p80: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Times:
        """Of at least one value."""
        ordered = sorted(values)

        def percentile(share: float) -> float:
            return ordered[round(share * (len(ordered) - 1))]

        return cls(statistics.median(ordered), percentile(0.2), percentile(0.8))


class Stopwatch:
    """Times the two parts of a run on a device.

    On CUDA every run follows a write of 512 MiB, which leaves nothing of use in L2, and a spin of
    about 3 ms: while the device is busy with those the host queues the run, so that events around
    its parts see the device's time and not the host's.

    Args:
        device: where the work runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)

    def wait(self) -> None:
        """Until the device has done all that is queued."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def start(self, first: Callable[[], Any], second: Callable[[Any], Any]) -> Any:
        """Runs both parts, the second on the result of the first; a mark for `milliseconds`."""
        if self.device.type != "cuda":
            marks = [time.perf_counter()]
            result = first()
            marks.append(time.perf_counter())
            second(result)
            return [*marks, time.perf_counter()]
        self._flush.zero_()
        torch.cuda._sleep(SPIN_CYCLES)
        events = [torch.cuda.Event(enable_timing=True) for _ in range(3)]
        events[0].record()
        result = first()
        events[1].record()
        second(result)
        events[2].record()
        return events

    def milliseconds(self, marks: Any) -> tuple[float, float]:
        """(first part, second part), after `wait`."""
        before, between, after = marks
        if self.device.type != "cuda":
            return 1e3 * (between - before), 1e3 * (after - between)
        return before.elapsed_time(between), between.elapsed_time(after)
