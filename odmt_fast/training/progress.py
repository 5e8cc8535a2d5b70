"""Where a run stands: everything a resumed run must know beside tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class EpochRecord:
    """What is kept of a finished epoch.

    Attributes:
        epoch: from 1.
        step: steps of the run so far.
        losses: mean over the epoch's steps of every loss column, by name.
        score: the validation score that chooses the best epoch.
        metrics: everything the validation returned.
        seconds: spent on training steps in this epoch.
        samples_per_second: users trained on per second of these.
    """

    epoch: int
    step: int
    losses: dict[str, float]
    score: float
    metrics: dict[str, float]
    seconds: float
    samples_per_second: float


@dataclass
class Progress:
    """The position of a run and its memory; all of it plain numbers and names.

    Attributes:
        epoch: the epoch in work, from 1.
        step: steps done in it.
        total_steps: steps done in the run.
        seconds: spent on the steps of this epoch.
        loss_sums: sums of the loss columns over the steps of this epoch already logged.
        best_epoch: epoch of the best validation score, 0 before the first one.
        best_score: that score.
        history: the finished epochs.
    """

    epoch: int = 1
    step: int = 0
    total_steps: int = 0
    seconds: float = 0.0
    loss_sums: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[EpochRecord] = field(default_factory=list)

    @property
    def epochs_since_best(self) -> int:
        """Finished epochs after the best one: what patience limits."""
        return len(self.history) - self.best_epoch

    def finish_epoch(self, record: EpochRecord) -> bool:
        """Moves to the next epoch; True if the finished one is the best so far."""
        best = record.score > self.best_score
        if best:
            self.best_epoch, self.best_score = record.epoch, record.score
        self.history.append(record)
        self.epoch += 1
        self.step, self.seconds, self.loss_sums = 0, 0.0, []
        return best

    def to_json(self) -> dict[str, Any]:
        """Plain values; floats survive JSON exactly."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Progress:
        """The inverse of `to_json`."""
        history = [EpochRecord(**record) for record in values["history"]]
        return cls(**{**values, "history": history})


def score_of(metrics: Mapping[str, float], metric: str) -> float:
    """The score that chooses the best epoch: `metric` of the ensemble, or of the only branch.

    Args:
        metrics: as validation returned them; ``ensemble/<metric>``, ``<metric>`` by itself, or
            ``<branch>/<metric>``, of which the first counts.
        metric: ``evaluation.metric``.

    Raises:
        ValueError: the metric is absent or not finite.
    """
    branches = [name for name in metrics if name.endswith(f"/{metric}")]
    for name in (f"ensemble/{metric}", metric, *branches):
        if name in metrics:
            score = float(metrics[name])
            if not math.isfinite(score):
                raise ValueError(f"validation returned {name}={score}; scores must be finite")
            return score
    raise ValueError(
        f"validation returned {', '.join(metrics) or 'nothing'}, and neither ensemble/{metric} nor "
        f"{metric}; change evaluation.metric or what evaluate returns"
    )
