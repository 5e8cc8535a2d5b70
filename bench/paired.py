"""Two ways of training the same model, seed by seed: means, errors, and a picture of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

REFERENCE, ENGINE, AGAIN = ("reference", 0), ("engine", 0), ("engine", 1)
"""Implementation and dropout noise of the runs of a seed (see `bench.quality`)."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Of at least two values."""
        return cls(mean(values), stdev(values) / len(values) ** 0.5)

    @property
    def within_one_error(self) -> bool:
        """Zero is no further than one standard error."""
        return abs(self.mean) <= self.error


def complete_seeds(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """The seeds whose three runs are there."""
    found = {(row["implementation"], row["noise"], row["seed"]) for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    return [s for s in seeds if all((*kind, s) in found for kind in (REFERENCE, ENGINE, AGAIN))]


def by_seed(
    rows: Sequence[Mapping[str, Any]], kind: tuple[str, int], ranking: str
) -> dict[int, float]:
    """Seed -> the value of one ranking ("id", ..., "ensemble") in the runs of `kind`."""
    return {
        row["seed"]: row[ranking] for row in rows if (row["implementation"], row["noise"]) == kind
    }


def differences(
    rows: Sequence[Mapping[str, Any]],
    minuend: tuple[str, int],
    subtrahend: tuple[str, int],
    ranking: str,
) -> list[float]:
    """Of the runs of each complete seed, in the order of the seeds."""
    left, right = (by_seed(rows, kind, ranking) for kind in (minuend, subtrahend))
    return [left[seed] - right[seed] for seed in complete_seeds(rows)]


def gaps(rows: Sequence[Mapping[str, Any]], rankings: Sequence[str]) -> dict[str, Estimate]:
    """Ranking -> engine minus reference."""
    return {name: Estimate.of(differences(rows, ENGINE, REFERENCE, name)) for name in rankings}


def draw(rows: Sequence[Mapping[str, Any]], rankings: Sequence[str], path: Path) -> None:
    """Every seed's difference as a dot, the mean with its standard error beside them."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.2), constrained_layout=True)
    axes.axhline(0, color="#999999", linewidth=0.8)
    pairs = (
        (ENGINE, REFERENCE, "#0072B2", "engine - reference", -0.16),
        (AGAIN, ENGINE, "#666666", "engine, other noise - engine", 0.16),
    )
    for minuend, subtrahend, colour, label, shift in pairs:
        for x, ranking in enumerate(rankings):
            values = differences(rows, minuend, subtrahend, ranking)
            dots = [x + shift - 0.06] * len(values)
            axes.plot(dots, values, "o", color=colour, alpha=0.45, markersize=4)
            estimate = Estimate.of(values)
            axes.errorbar(
                x + shift + 0.06,
                estimate.mean,
                estimate.error,
                fmt="s",
                color=colour,
                capsize=4,
                label=label if x == 0 else None,
            )
    axes.set_xticks(range(len(rankings)), list(rankings))
    axes.set_ylabel("difference in test HR@10")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
