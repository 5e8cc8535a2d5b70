"""Tells whoever watches how a run goes."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Protocol, TextIO

from odmt_fast.training.progress import EpochRecord


@dataclass(frozen=True)
class StepReport:
    """Where a run stands after a step.

    Attributes:
        epoch: the epoch in work, from 1.
        epochs: the most epochs the run will have.
        step: steps done in this epoch.
        steps: steps of an epoch.
        loss: of the latest step whose loss is known.
        samples_per_second: users trained on per second, lately.
        seconds_left: until the last epoch ends at this rate, validation not counted.
        best_score: validation score of the best epoch; None before the first validation.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    samples_per_second: float
    seconds_left: float
    best_score: float | None

    def __str__(self) -> str:
        best = "-" if self.best_score is None else f"{self.best_score:.4f}"
        return (
            f"epoch {self.epoch}/{self.epochs} step {self.step}/{self.steps} "
            f"loss {self.loss:.4f} {self.samples_per_second:.0f} samples/s "
            f"{_clock(self.seconds_left)} left best {best}"
        )


class Reporter(Protocol):
    """What a run tells; called from the training thread, must return quickly."""

    def message(self, text: str) -> None:
        """Something worth a line."""

    def step(self, report: StepReport) -> None:
        """After every step (on a GPU: after every interval, when the loss is known)."""

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """After every validation; `best`: no epoch was better so far."""

    def close(self) -> None:
        """The run ended, well or not."""


class SilentReporter:
    """Of every process but the first."""

    def message(self, text: str) -> None:
        """Nothing."""

    def step(self, report: StepReport) -> None:
        """Nothing."""

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class PlainReporter:
    """Lines of text, at most one per `every_seconds` beside messages and epochs."""

    def __init__(self, stream: TextIO | None = None, every_seconds: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._every_seconds = every_seconds
        self._last = time.monotonic()

    def message(self, text: str) -> None:
        """Writes the text."""
        print(text, file=self._stream, flush=True)

    def step(self, report: StepReport) -> None:
        """Writes the report if the last one is old enough."""
        now = time.monotonic()
        if now - self._last >= self._every_seconds:
            self._last = now
            self.message(str(report))

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """Writes the epoch's loss and score."""
        self.message(epoch_line(record, best))

    def close(self) -> None:
        """Nothing to close."""


class RichReporter:
    """One live progress line, with the epochs above it (needs rich)."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True, markup=False, emoji=False, highlight=False),
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=None)
        self._progress.start()

    def message(self, text: str) -> None:
        """Prints the text above the line."""
        self._progress.console.print(text)

    def step(self, report: StepReport) -> None:
        """Updates the line."""
        self._progress.update(
            self._task, total=report.steps, completed=report.step, description=str(report)
        )

    def epoch(self, record: EpochRecord, best: bool) -> None:
        """Prints the epoch's loss and score above the line."""
        self.message(epoch_line(record, best))

    def close(self) -> None:
        """Removes the line."""
        self._progress.stop()


def default_reporter() -> Reporter:
    """A live line on a terminal where rich is installed, plain lines otherwise."""
    if sys.stderr.isatty():
        try:
            return RichReporter()
        except ImportError:
            pass
    return PlainReporter()


def epoch_line(record: EpochRecord, best: bool) -> str:
    """An epoch in one line; all its metrics are in ``epochs.csv``."""
    return (
        f"epoch {record.epoch} loss {record.losses['loss']:.4f} score {record.score:.4f} "
        f"{record.samples_per_second:.0f} samples/s{' *best*' if best else ''}"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
