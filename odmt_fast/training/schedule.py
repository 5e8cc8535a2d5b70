"""When things happen: checkpoints, the end of a run, and stopping on request."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


class CheckpointClock:
    """Says when the next checkpoint is due: after so many steps or so many minutes.

    Args:
        steps: steps between two checkpoints; None leaves it to the clock.
        minutes: minutes between two checkpoints.
    """

    def __init__(self, steps: int | None, minutes: float) -> None:
        if steps is not None and steps < 1:
            raise ValueError(f"checkpoint_steps must be at least 1 or None, got {steps}")
        if not minutes > 0:
            raise ValueError(f"checkpoint_minutes must be positive, got {minutes}")
        self._steps = steps
        self._seconds = 60.0 * minutes
        self._saved_at = time.monotonic()
        self._taken = 0

    def due(self) -> bool:
        """Counts a step; True if a checkpoint is due after it."""
        self._taken += 1
        if self._steps is not None and self._taken >= self._steps:
            return True
        return time.monotonic() - self._saved_at >= self._seconds

    def reset(self) -> None:
        """A checkpoint was written."""
        self._saved_at, self._taken = time.monotonic(), 0


class StopRequest:
    """Holds the first SIGINT or SIGTERM back until the context ends.

    Meanwhile it is a request to stop after the current step. On leaving the context it is delivered
    to whoever handled it before, so that Ctrl-C ends the program as it always does, only later. A
    second one acts at once. Only the main thread may handle signals; elsewhere nothing is installed
    and `signal_name` stays None.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self.request)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        # An error on the way out says more than the signal that may have caused it.
        if self.signal_name is not None and kind is None:
            signal.raise_signal(signal.Signals[self.signal_name])

    def __bool__(self) -> bool:
        """Whether a stop was requested."""
        return self.signal_name is not None

    @property
    def number(self) -> int:
        """That of the signal; 0 before there was one."""
        return 0 if self.signal_name is None else signal.Signals[self.signal_name]

    def request(self, number: int, frame: FrameType | None = None) -> None:
        """Takes signal `number` as received, also from another process that received it."""
        self.signal_name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
