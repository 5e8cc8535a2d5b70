"""A study: the runs of a grid on one dataset, and what they say together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odmt_fast.config import Config
from odmt_fast.evaluation.ranks import Ranks
from odmt_fast.storage import FolderLock, write_atomically
from odmt_fast.studies.compare import (
    HEADER,
    Comparison,
    check_comparable,
    compare,
    metrics_at,
    ranks_of,
)
from odmt_fast.studies.grid import Grid
from odmt_fast.studies.processes import train_beside
from odmt_fast.studies.study_plot import plot_study
from odmt_fast.training.report import Reporter
from odmt_fast.workflow.trained import train_and_test

Tell = Callable[[str], None]


@dataclass(frozen=True)
class StudyResult:
    """What the runs of a grid found on the test targets.

    Attributes:
        grid: whose runs they are.
        folder: of the study.
        values: row -> metric -> its value with every seed, in their order, of the ranking that a
            recommender uses.
        comparisons: of every row against `grid.against`.
    """

    grid: Grid
    folder: Path
    values: Mapping[str, Mapping[str, tuple[float, ...]]]
    comparisons: tuple[Comparison, ...]

    def table(self) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """Header and rows of text: mean and standard error over the seeds."""
        metrics = tuple(next(iter(self.values.values())))
        rows = tuple(
            (name, *(_with_error(found[metric]) for metric in metrics))
            for name, found in self.values.items()
        )
        return ("", *(metric.upper() for metric in metrics)), rows

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "seeds": self.grid.seeds,
            "against": self.grid.against,
            "rows": {
                name: {
                    "settings": self.grid.changes[name],
                    "runs": [_place(name, seed) for seed in self.grid.seeds],
                    "metrics": {
                        metric: {
                            "values": values,
                            "mean": float(np.mean(values)),
                            "standard_error": standard_error(values),
                        }
                        for metric, values in found.items()
                    },
                }
                for name, found in self.values.items()
            },
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
        }

    def markdown(self) -> str:
        """The tables, for a page."""
        seeds = ", ".join(map(str, self.grid.seeds))
        parts = [f"Test targets, seeds {seeds}: mean ± standard error over the seeds.", ""]
        parts += _markdown(*self.table())
        if self.comparisons:
            parts += ["", f"Against {self.grid.against}, by a paired bootstrap over users:", ""]
            parts += _markdown(HEADER, tuple(found.cells() for found in self.comparisons))
        return "\n".join(parts) + "\n"


def run_study(
    grid: Grid, folder: Path, reporter: Callable[[str], Reporter], tell: Tell, *, jobs: int = 1
) -> StudyResult:
    """Trains what is not trained yet, and writes tables and a figure into the folder.

    ``<folder>/<row>/seed-<n>`` is a run like any other; ``study.json``, ``study.md`` and
    ``study.png`` say what they found. Called again it keeps finished runs and goes on with an
    interrupted one.

    Args:
        grid: the runs.
        folder: of the study.
        reporter: makes one that shows this metric, where runs go one after the other.
        tell: told in one line what happens.
        jobs: runs at a time; with more than one, each is a process and tells ``train.log``.

    Raises:
        FolderInUseError: the study is being run.
        ResumeError: a run in the folder was made with other settings or data.
        RuntimeError: runs failed, of several at a time.
        ValueError: the runs cannot be compared.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs} must be at least 1")
    configs = {
        _place(name, seed): config.updated(
            {"training.seed": seed, "training.output": folder / _place(name, seed)}
        )
        for name, config in grid.rows.items()
        for seed in grid.seeds
    }
    with FolderLock(folder, "odmt-fast study"):
        if jobs > 1:
            train_beside(configs, jobs, tell)
        else:
            _train_one_by_one(configs, reporter, tell)
        result = _results(grid, folder)
        _write(result)
    return result


def standard_error(values: tuple[float, ...]) -> float | None:
    """Of the mean; None of one value."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else None


def _train_one_by_one(
    configs: Mapping[str, Config], reporter: Callable[[str], Reporter], tell: Tell
) -> None:
    for place, (name, config) in enumerate(configs.items(), 1):
        tell(f"{place}/{len(configs)} {name}")
        train_and_test(config, reporter(config.evaluation.metric), resume=True)


def _results(grid: Grid, folder: Path) -> StudyResult:
    ranks = {
        name: [ranks_of(folder / _place(name, seed)) for seed in grid.seeds] for name in grid.rows
    }
    check_comparable(
        {
            _place(name, seed): run
            for name, runs in ranks.items()
            for seed, run in zip(grid.seeds, runs, strict=True)
        }
    )
    some = next(iter(grid.rows.values()))
    metrics = metrics_at(some.evaluation.k)
    comparisons: list[Comparison] = []
    if grid.against is not None:
        for name in grid.rows:
            if name != grid.against:
                comparisons += compare(
                    name, ranks[name], ranks[grid.against], metrics, seed=grid.seeds[0]
                )
    values = {name: _values(runs, metrics) for name, runs in ranks.items()}
    return StudyResult(grid, folder, values, tuple(comparisons))


def _values(runs: list[Ranks], metrics: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    return {metric: tuple(float(run.gains(metric).mean()) for run in runs) for metric in metrics}


def _write(result: StudyResult) -> None:
    text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False, default=str) + "\n"
    write_atomically(result.folder / "study.json", lambda part: part.write_text(text, "utf-8"))
    page = result.markdown()
    write_atomically(result.folder / "study.md", lambda part: part.write_text(page, "utf-8"))
    metric = next(iter(result.grid.rows.values())).evaluation.metric
    values = {name: found[metric] for name, found in result.values.items()}
    plot_study(values, metric, result.folder / "study.png", against=result.grid.against)


def _place(row: str, seed: int) -> str:
    return f"{row}/seed-{seed}"


def _with_error(values: tuple[float, ...]) -> str:
    error = standard_error(values)
    mean = f"{np.mean(values):.4f}"
    return mean if error is None else f"{mean} ± {error:.4f}"


def _markdown(header: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> list[str]:
    lines = [header, ("---", *["---:"] * (len(header) - 1)), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
