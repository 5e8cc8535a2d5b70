"""The speed of a run, for progress lines and logs."""

from __future__ import annotations

import time
from collections import deque


class Pace:
    """How fast the latest steps were, checkpoints and validations left out."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque(maxlen=50)
        self._mark = time.perf_counter()

    def restart(self) -> None:
        """Begins to measure a step; what happened since the last one does not count."""
        self._mark = time.perf_counter()

    def step(self, users: int) -> float:
        """Ends a step of `users` and begins the next; its seconds."""
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        self._steps.append((seconds, users))
        return seconds

    @property
    def seconds_per_step(self) -> float:
        """Mean of the latest steps."""
        return sum(seconds for seconds, _ in self._steps) / max(len(self._steps), 1)

    @property
    def samples_per_second(self) -> float:
        """Users per second in the latest steps."""
        seconds = sum(seconds for seconds, _ in self._steps)
        return sum(users for _, users in self._steps) / seconds if seconds else 0.0
