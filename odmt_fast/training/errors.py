"""What can go wrong in a training run, each with what the reader needs to go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class NonFiniteLossError(RuntimeError):
    """A loss term, or the gradient norm, became NaN or infinite.

    Attributes:
        epoch: from 1.
        step: steps taken since the beginning of the run, the failing one included.
        terms: names of what is not finite, such as ``text/ce`` or ``model/users.positions``.
        checkpoint: the last checkpoint whose weights were finite; None when there is none.
    """

    def __init__(
        self,
        epoch: int,
        step: int,
        terms: Sequence[str],
        checkpoint: Path | None,
        learning_rate: float,
    ) -> None:
        self.epoch, self.step, self.terms, self.checkpoint = epoch, step, tuple(terms), checkpoint
        way_on = (
            f"the last good checkpoint is {checkpoint}; to go on from it, train again with "
            f"--override training.learning_rate={learning_rate / 10:g} (or training.clip_norm=..., "
            "training.precision=fp32)"
            if checkpoint
            else "nothing was saved; a smaller training.learning_rate or training.clip_norm, or "
            "training.precision=fp32, may help"
        )
        super().__init__(
            f"{', '.join(terms)} became NaN or infinite at step {step} of the run, in epoch "
            f"{epoch}; {way_on}; the features of the items should be finite too"
        )


class ResumeError(ValueError):
    """A checkpoint does not belong to the run that wants to go on from it."""


class CheckpointError(ValueError):
    """A file is not a checkpoint of this package, or lacks what is asked of it."""
