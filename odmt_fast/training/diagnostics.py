"""What commonly goes wrong in a run, told while it trains (docs/reading-results.md).

Each check is a function of the finished epochs: a line with the remedy, or None. It compares by
`noise`, the luck of which targets were held out, so that a small validation set accuses nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from odmt_fast.config import Config
from odmt_fast.training.checkpoint import BEST, peek
from odmt_fast.training.progress import EpochRecord

AFTER, AFTER_STEPS = 5, 200
"""Epochs, and steps, before a ranking is expected to have left popularity behind."""
IN_A_ROW = 3
"""Epochs that must agree."""
DOMINANT = 0.95
"""Share of the fused vector from which the features hardly speak."""
GROWTH = 1.25
"""Distillation terms that grew by this factor in `AFTER` epochs diverge."""
IN_FORCE = 0.05
"""Share of the loss from which distillation is in force."""

_ALONE = {"id": "sasrec", "text": "sasrec-text", "image": "sasrec-image"}
_ENSEMBLE, _POPULARITY = "ensemble", "popularity"

History = Sequence[EpochRecord]


@dataclass(frozen=True)
class Yardsticks:
    """What a run is measured by.

    Attributes:
        metric: ``evaluation.metric``.
        targets: that validation ranks.
        alone: branch -> validation score of that branch trained alone, where it is known.
    """

    metric: str
    targets: int
    alone: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config, identity: Mapping[str, object], targets: int) -> Yardsticks:
        """Of a run, with what ``odmt-fast baselines`` found in its folder on the same targets."""
        alone = {}
        for branch, name in _ALONE.items():
            header = peek(config.training.output / "baselines" / name / "checkpoints" / BEST)
            theirs = header.get("identity", {})
            same = ("evaluation.metric", "evaluation.valid_targets", "validation targets")
            if theirs and all(theirs.get(key) == identity[key] for key in same):
                alone[branch] = float(header["score"])
        return cls(config.evaluation.metric, targets, alone)

    @property
    def hit_rate(self) -> str:
        """HR at the cut-off of the metric."""
        return f"hr@{self.metric.partition('@')[2]}"

    def noise(self, score: float) -> float:
        """Two standard errors: a target adds 0 to 1, so its variance is at most p (1 - p)."""
        return 2.0 * (max(score * (1.0 - score), 0.0) / max(self.targets, 1)) ** 0.5


def stuck_at_popularity(history: History, by: Yardsticks) -> str | None:
    """The ranking that is used is no better than popularity, `AFTER` epochs and `AFTER_STEPS`."""
    popularity = _latest(history, _POPULARITY, by.hit_rate)
    if not _begun(history) or popularity is None:
        return None
    name = _leader(history[-1], by)
    scores = _scores(history, name, by.hit_rate) if name else []
    if not scores or max(scores) > popularity + by.noise(popularity):
        return None
    return (
        f"stuck at popularity: after {len(history)} epochs {by.hit_rate.upper()} is "
        f"{max(scores):.4f} at best, popularity has {popularity:.4f} (noise "
        f"{by.noise(popularity):.4f}); try a weaker distillation (--set model.alpha=0.02), "
        "--set model.dropout=0 or a higher --learning-rate"
    )


def weak_branch(history: History, by: Yardsticks) -> str | None:
    """A branch is worse than when it is trained alone; where that is not known, than popularity."""
    popularity = _latest(history, _POPULARITY, by.hit_rate)
    for name in _branches(history[-1], by) if history else ():
        scores = _scores(history, name, by.metric)
        alone = by.alone.get(name)
        if alone is not None:
            settled = len(scores) > IN_A_ROW and max(scores) == max(scores[:-IN_A_ROW])
            if settled and max(scores) < alone - by.noise(alone):
                return (
                    f"weak branch: {name} no longer improves at {by.metric.upper()} "
                    f"{max(scores):.4f}, trained alone it has {alone:.4f} "
                    f"(baselines/{_ALONE[name]}); try a weaker distillation "
                    "(--set model.alpha=0.02) or a wider model"
                )
        elif popularity is not None and _begun(history):
            hits = _scores(history[-IN_A_ROW:], name, by.hit_rate)
            if hits and max(hits) < popularity - by.noise(popularity):
                return (
                    f"weak branch: {name} has {by.hit_rate.upper()} {max(hits):.4f} at best in "
                    f"{IN_A_ROW} epochs, popularity {popularity:.4f}; look at its features "
                    f"(odmt-fast studies features RUN), or leave them out "
                    "(--set features.modalities=[...])"
                )
    return None


def ensemble_behind(history: History, by: Yardsticks) -> str | None:
    """The ensemble has been worse than one and the same branch, `IN_A_ROW` epochs long."""
    for name in _branches(history[-1], by) if history else ():
        pairs = [
            (_score(record, _ENSEMBLE, by.metric), _score(record, name, by.metric))
            for record in history[-IN_A_ROW:]
        ]
        behind = [
            together is not None and alone is not None and alone - together > by.noise(alone) / 2
            for together, alone in pairs
        ]
        if len(behind) == IN_A_ROW and all(behind):
            together, alone = pairs[-1]
            return (
                f"ensemble behind: {by.metric.upper()} {together:.4f}, its branch {name} has "
                f"{alone:.4f}, {IN_A_ROW} epochs in a row; the others pull it down: train "
                "longer, or leave a modality out (--set features.modalities=[...])"
            )
    return None


def diverging_distillation(history: History, by: Yardsticks) -> str | None:
    """Distillation is in force, yet a student leaves its teacher while its own loss falls."""
    if len(history) <= AFTER:
        return None
    first, last = history[-1 - AFTER].losses, history[-1].losses
    terms = [name for name in last if name.endswith("/kd")]
    weighted = first.get("kd_weight", 0.0) * sum(first[name] for name in terms)
    if not terms or weighted < IN_FORCE * first["loss"]:
        return None
    for name in terms:
        student = name.removesuffix("/kd")
        if last[name] > GROWTH * first[name] and last[f"{student}/ce"] < first[f"{student}/ce"]:
            return (
                f"diverging distillation: in {AFTER} epochs the distillation of {student} grew "
                f"from {first[name]:.3f} to {last[name]:.3f} while its cross entropy fell; try "
                "--set model.detach_teacher=true, a larger model.tau, or a constant weight "
                "(--set model.alpha=0.02)"
            )
    return None


def dominant_id(history: History, by: Yardsticks) -> str | None:
    """The fused vector has followed the ID nearly alone, `IN_A_ROW` epochs long."""
    shares = [record.metrics.get("id_share", 0.0) for record in history[-IN_A_ROW:]]
    if len(shares) < IN_A_ROW or min(shares) < DOMINANT:
        return None
    return (
        f"dominant ID: {shares[-1]:.0%} of the fused item vector follows the ID, the features say "
        "next to nothing, and new items will be poor; try a smaller --set model.id_width, or "
        "--set model.id_init=text|image|mean"
    )


CHECKS: tuple[Callable[[History, Yardsticks], str | None], ...] = (
    stuck_at_popularity,
    weak_branch,
    ensemble_behind,
    diverging_distillation,
    dominant_id,
)
"""All of them, in the order they are told."""


def news(history: History, by: Yardsticks) -> tuple[str, ...]:
    """What is wrong since the latest epoch; what was wrong before it was told then."""
    return tuple(
        line
        for check in CHECKS
        if (line := check(history, by)) and not (len(history) > 1 and check(history[:-1], by))
    )


def _begun(history: History) -> bool:
    """Whether the run has had the time to leave popularity behind."""
    return len(history) >= AFTER and history[-1].step >= AFTER_STEPS


def _score(record: EpochRecord, name: str, metric: str) -> float | None:
    return record.metrics.get(f"{name}/{metric}")


def _scores(history: History, name: str, metric: str) -> list[float]:
    found = (_score(record, name, metric) for record in history)
    return [score for score in found if score is not None]


def _latest(history: History, name: str, metric: str) -> float | None:
    return _score(history[-1], name, metric) if history else None


def _branches(record: EpochRecord, by: Yardsticks) -> list[str]:
    """Rankings of single branches."""
    suffix = f"/{by.metric}"
    names = [name.removesuffix(suffix) for name in record.metrics if name.endswith(suffix)]
    return [name for name in names if name not in (_ENSEMBLE, _POPULARITY)]


def _leader(record: EpochRecord, by: Yardsticks) -> str | None:
    """The ranking a recommender uses."""
    branches = _branches(record, by)
    together = _score(record, _ENSEMBLE, by.metric) is not None
    return _ENSEMBLE if together else next(iter(branches), None)
