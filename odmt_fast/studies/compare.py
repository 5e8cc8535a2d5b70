"""Runs against a run, target by target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.evaluation.metrics import METRICS
from odmt_fast.evaluation.ranks import Ranks
from odmt_fast.studies.bootstrap import DRAWS, Difference, paired_bootstrap
from odmt_fast.training.checkpoint import BEST


@dataclass(frozen=True)
class Comparison:
    """One metric of two runs, or of two groups of runs.

    Attributes:
        name: who is compared.
        metric: such as "hr@10".
        ours: its metric.
        theirs: that of the one it is compared against.
        difference: the first less the second, with its interval.
    """

    name: str
    metric: str
    ours: float
    theirs: float
    difference: Difference

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the difference's values beside the others."""
        values = asdict(self)
        difference = values.pop("difference")
        return {**values, "difference": difference.pop("value"), **difference}

    def cells(self) -> tuple[str, ...]:
        """A row of text; `HEADER` names the columns."""
        found = self.difference
        return (
            self.name,
            self.metric.upper(),
            f"{self.theirs:.4f}",
            f"{self.ours:.4f}",
            f"{found.value:+.4f}",
            f"{found.low:+.4f} to {found.high:+.4f}",
            f"{found.p:.4f}",
        )


HEADER = ("", "metric", "against", "value", "difference", "95 % interval", "p")


def metrics_at(k: Sequence[int]) -> tuple[str, ...]:
    """HR and NDCG at every cut-off."""
    return tuple(f"{kind}@{cut}" for kind in METRICS for cut in k)


def ranks_of(run: Path, part: str = "test") -> Ranks:
    """The ranks that a run keeps of its best epoch.

    Raises:
        ValueError: it keeps none, they are damaged, or another checkpoint made them.
    """
    return Ranks.load(run, part, run / "checkpoints" / BEST)


def check_comparable(named: Mapping[str, Ranks]) -> None:
    """Raises a ValueError that names what a run and the first one do not have in common."""
    (first, base), *others = named.items()
    for name, ranks in others:
        keys = sorted({*base.made_of, *ranks.made_of})
        wrong = [key for key in keys if base.made_of.get(key) != ranks.made_of.get(key)]
        if (base.users, base.targets) != (ranks.users, ranks.targets):
            wrong = [*wrong, "ranked targets"]
        if wrong:
            raise ValueError(
                f"{name} and {first} cannot be compared, they differ in: {', '.join(wrong)}; "
                "compare runs of one dataset, ranked by the same rules (odmt-fast evaluate)"
            )


def compare(
    name: str,
    ours: Sequence[Ranks],
    theirs: Sequence[Ranks],
    metrics: Sequence[str],
    *,
    seed: int,
    draws: int = DRAWS,
    ranking: str | None = None,
) -> list[Comparison]:
    """The metrics of one group of runs less those of another; of each run what `ranking` names.

    A target counts with its mean over the runs of a group (its seeds, say), so that the interval is
    that of other users, not of other seeds. All draws of a seed are the same.

    Args:
        name: who is compared.
        ours: its runs, `check_comparable` with all others.
        theirs: the runs it is compared against.
        metrics: such as "ndcg@10".
        seed: of the draws.
        draws: of the bootstrap.
        ranking: None = that of a recommender: the ensemble, or the only branch.

    Raises:
        ValueError: a metric or ranking does not exist.
    """
    users = np.unique(ours[0].users, return_inverse=True)[1].astype(np.int64)
    found = []
    for metric in metrics:
        a, b = (_mean_gains(group, metric, ranking) for group in (ours, theirs))
        difference = paired_bootstrap(a, b, users, seed=seed, draws=draws)
        found.append(Comparison(name, metric, float(a.mean()), float(b.mean()), difference))
    return found


def _mean_gains(group: Sequence[Ranks], metric: str, ranking: str | None) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.mean([r.gains(metric, ranking) for r in group], axis=0)
    return means
