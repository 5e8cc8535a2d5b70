"""How work goes, on a terminal or in a log: an epoch in one line, the time left, the time taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from odmt_fast.training.progress import EpochRecord
from odmt_fast.training.report import StepReport, default_reporter

_Clock = Callable[[], float]


def duration(seconds: float) -> str:
    """For people: ``0.4 s``, ``12 s``, ``3 min 05 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class TimeLeft:
    """Says how long work will still take, from how it went so far; a few times, not always.

    Args:
        clock: seconds; for tests.
    """

    _FIRST_AFTER = 2.0

    def __init__(self, clock: _Clock = time.monotonic) -> None:
        self._clock = clock
        self._begun: tuple[float, int] | None = None
        self._told_quarter = -1

    def __call__(self, done: int, total: int) -> str | None:
        """A line after two seconds and at each quarter of the way; None where there is no news."""
        now = self._clock()
        if self._begun is None:
            self._begun = now, done
        took, made = now - self._begun[0], done - self._begun[1]
        quarter = 4 * done // max(total, 1)
        if took < self._FIRST_AFTER or made < 1 or done >= total or quarter <= self._told_quarter:
            return None
        self._told_quarter = quarter
        return f"about {duration(took / made * (total - done))} left"


class Steps:
    """A command of several steps: says what each does, how long it will take, and what it took.

    Args:
        count: of the steps.
        say: is told.
        clock: seconds; for tests.
    """

    def __init__(
        self, count: int, say: Callable[[str], None], clock: _Clock = time.monotonic
    ) -> None:
        self._count, self._say, self._clock = count, say, clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[Callable[[int, int], None]]:
        """Times a step; gives a callback (done, in all) for work that can be counted."""
        left = TimeLeft(self._clock)
        left(0, 1)

        def tell(done: int, total: int) -> None:
            if (text := left(done, total)) is not None:
                self._say(text)

        began = self._clock()
        self._say(f"{len(self.seconds) + 1}/{self._count} {what}")
        yield tell
        self.seconds[name] = self._clock() - began

    def summary(self) -> str:
        """What every step took, in one line."""
        each = ", ".join(f"{name} {duration(took)}" for name, took in self.seconds.items())
        return f"Took {duration(sum(self.seconds.values()))}: {each}."


class EpochLines:
    """Reports like training does by default, with the epochs cut to one metric.

    Args:
        metric: the metric shown, of every ranking.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._inner = default_reporter()
        self._left = TimeLeft()

    def message(self, text: str) -> None:
        """Passed on."""
        self._inner.message(text)

    def step(self, report: StepReport) -> None:
        """Passed on; now and then the time left as a line that stays."""
        self._inner.step(report)
        done = (report.epoch - 1) * report.steps + report.step
        if (left := self._left(done, report.epochs * report.steps)) is not None:
            self._inner.message(f"{left} for {report.epochs} epochs, fewer if no epoch is better")

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """Loss, and the metric of every ranking on the validation targets."""
        shown = "  ".join(
            f"{name.removesuffix('/' + self._metric)} {value:.4f}"
            for name, value in record.metrics.items()
            if name.endswith("/" + self._metric)
        )
        self._inner.message(
            f"epoch {record.epoch:>3}  loss {record.losses['loss']:8.4f}  "
            f"{self._metric.upper()}: {shown}{'  *best*' if best else ''}"
        )

    def close(self) -> None:
        """Passed on."""
        self._inner.close()
