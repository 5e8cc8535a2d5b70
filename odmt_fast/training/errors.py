"""What can go wrong in a training run, each with what the reader needs to go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class NonFiniteLossError(RuntimeError):
    """A loss term, or the gradient norm, became NaN or infinite.

    Attributes:
        epoch: from 1.
        step: steps taken since the beginning of the run, the failing one included.
        terms: names of the non-finite terms, such as ``ce/text`` or ``kd/id<-ensemble``.
        checkpoint: the last checkpoint whose weights were finite; None when there is none.
    """

    def __init__(
        self, epoch: int, step: int, terms: Sequence[str], checkpoint: Path | None
    ) -> None:
        self.epoch, self.step, self.terms, self.checkpoint = epoch, step, tuple(terms), checkpoint
        saved = f"the last good checkpoint is {checkpoint}" if checkpoint else "nothing was saved"
        super().__init__(
            f"{', '.join(terms)} became NaN or infinite at step {step} of the run, in epoch "
            f"{epoch}; {saved}; a smaller training.learning_rate or training.clip_norm, or "
            "training.precision=fp32, may help, and the features of the items should be finite"
        )


class ResumeError(ValueError):
    """A checkpoint does not belong to the run that wants to go on from it."""


class CheckpointError(ValueError):
    """A file is not a checkpoint of this package, or lacks what is asked of it."""
