"""What an evaluation found: ranks per user, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from odmt_fast.evaluation.metrics import METRICS, gains


def best_ranking(names: Sequence[str]) -> str:
    """Of the names of rankings the one a recommender uses: the ensemble, or the only branch."""
    return "ensemble" if "ensemble" in names else names[0]


@dataclass(frozen=True)
class EvaluationResult:
    """Ranks of B users under R rankings, on the CPU.

    Attributes:
        names: the R rankings: branches, "ensemble" when there are several, then "popularity".
        k: the cut-offs of the metrics.
        ranks: int64 [R, B], 1 + number of items scored above the target.
        ties: int64 [R, B], other items scored like the target.
        targets: int64 [B], dense item ids.
        rows: int64 [B], place of each among the ranked sequences, ascending.
        input_lengths: int64 [B], input items of each user.
        repeated: bool [B], the target lies in the user's own history.
        n_items: items in the catalogue.
        repeat_targets: what became of repeated targets: "rank", "miss" or "skip" (left out).
    """

    names: tuple[str, ...]
    k: tuple[int, ...]
    ranks: Tensor
    ties: Tensor
    targets: Tensor
    rows: Tensor
    input_lengths: Tensor
    repeated: Tensor
    n_items: int
    repeat_targets: str

    @property
    def n_users(self) -> int:
        """B."""
        return self.ranks.shape[1]

    @property
    def best(self) -> str:
        """See `best_ranking`."""
        return best_ranking(self.names)

    @cached_property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Ranking name -> metric ("hr@10", "ndcg@10", ...) -> mean over users, in 0..1."""
        return {
            name: {
                metric: float(gains(metric, self.ranks[row], self.ties[row]).mean())
                for metric in (f"{kind}@{k}" for kind in METRICS for k in self.k)
            }
            for row, name in enumerate(self.names)
        }

    def flat(self) -> dict[str, float]:
        """``<ranking>/<metric>`` -> value, the columns of a training log."""
        return {
            f"{name}/{metric}": value
            for name, values in self.metrics.items()
            for metric, value in values.items()
        }

    def value(self, metric: str, name: str | None = None) -> float:
        """One metric, of the ensemble unless a ranking is named.

        Raises:
            ValueError: the metric or the ranking was not computed.
        """
        values = self.metrics.get(name or self.best)
        if values is None:
            raise ValueError(f"{name!r} was not ranked; choose one of {', '.join(self.names)}")
        if metric not in values:
            raise ValueError(f"{metric!r} was not computed; choose one of {', '.join(values)}")
        return values[metric]

    def table(self) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """Header and rows of text, ready for any table renderer."""
        columns = tuple(next(iter(self.metrics.values())))
        header = ("", *(column.upper() for column in columns))
        rows = tuple(
            (name, *(f"{values[column]:.4f}" for column in columns))
            for name, values in self.metrics.items()
        )
        return header, rows

    def to_dict(self) -> dict[str, Any]:
        """Everything but the ranks per user, for JSON."""
        return {
            "users": self.n_users,
            "items": self.n_items,
            "repeated_targets": int(self.repeated.sum()),
            "repeat_targets": self.repeat_targets,
            "tied_users": {
                name: int((self.ties[row] > 0).sum()) for row, name in enumerate(self.names)
            },
            "metrics": self.metrics,
        }

    def select(self, users: Tensor) -> EvaluationResult:
        """The same for some users only (bool [B] or int64 indices)."""
        return replace(
            self,
            ranks=self.ranks[:, users],
            ties=self.ties[:, users],
            targets=self.targets[users],
            rows=self.rows[users],
            input_lengths=self.input_lengths[users],
            repeated=self.repeated[users],
        )
