"""How fast this machine takes the steps of a run: a few short ones are taken, and timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from odmt_fast.planning.footprint import Footprint

_TIMED = 3
"""Steps of a size, after one that warms up; the fastest counts."""


@dataclass(frozen=True)
class Probe:
    """A size that was timed.

    Attributes:
        users: of the batch.
        counts: of its step.
        seconds: of the step.
    """

    users: int
    counts: Footprint
    seconds: float


@dataclass(frozen=True)
class Rates:
    """Seconds of each unit of a step's work, as the probes show it.

    Attributes:
        flop: of a FLOP in matrix products.
        byte: of a byte of a tensor that is made.
        call: of an operator, whatever it does.
    """

    flop: float
    byte: float
    call: float

    def seconds(self, counts: Footprint) -> float:
        """Of a step."""
        return self.flop * counts.flop + self.byte * counts.made + self.call * counts.calls

    @classmethod
    def of(cls, probes: Sequence[Probe]) -> Rates:
        """The rates, none below 0, with the least relative errors squared.

        Raises:
            ValueError: there is no probe.
        """
        if not probes:
            raise ValueError("no step was timed; give the probe a batch")
        work = np.array([[p.counts.flop, p.counts.made, p.counts.calls] for p in probes])
        relative = work / np.array([[p.seconds] for p in probes])
        return cls(*_least_squares(relative).tolist())


def _least_squares(work: NDArray[np.float64]) -> NDArray[np.float64]:
    """x >= 0 [n] with the least |work x - 1|^2: the best of all choices of what is not 0."""
    columns = work.shape[1]
    best, least = np.zeros(columns), np.inf
    for size in range(1, min(columns, len(work)) + 1):
        for chosen in combinations(range(columns), size):
            part = work[:, chosen]
            scale = np.abs(part).max(axis=0)
            found = np.linalg.lstsq(part / scale, np.ones(len(work)), rcond=None)[0] / scale
            error = float(((part @ found - 1) ** 2).sum())
            if (found >= 0).all() and error < least:
                best, least = np.zeros(columns), error
                best[list(chosen)] = found
    return best


def timed(step: Callable[[], object]) -> float:
    """Seconds of `step`, the fastest of some."""
    step()
    best = np.inf
    for _ in range(_TIMED):
        begin = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - begin)
    return float(best)
