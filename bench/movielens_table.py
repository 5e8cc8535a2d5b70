"""The part of docs/results.md that `bench.movielens` measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.paired import Estimate
from bench.table import table

MARKS = ("<!-- movielens -->", "<!-- /movielens -->")
COLUMNS = ("hr@5", "hr@10", "hr@20", "ndcg@10")
RANKINGS = (
    ("counted", "popularity", "popularity"),
    ("counted", "co-occurrence", "item co-occurrence"),
    ("counted", "markov", "first-order Markov"),
    ("sasrec", "sasrec", "SASRec on IDs, same budget"),
    ("sasrec-long", "sasrec", "SASRec on IDs, {long}"),
    ("odmt", "id", "ODMT, id branch"),
    ("odmt", "text", "ODMT, text branch"),
    ("odmt", "image", "ODMT, image branch"),
    ("odmt", "ensemble", "**ODMT, ensemble**"),
)
"""Model, ranking, label."""


def section(results: Mapping[str, Any]) -> str:
    """The table of means over seeds, and how the trainings went."""
    rows = results["rows"]
    runs = [row for row in rows if row["model"] == "odmt"]
    if not runs:
        return "Unfinished: no run of ODMT is there."
    long = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in results["long"].items())
    body = [
        [label.format(long=long), *(_cell(values) for values in by_column)]
        for model, ranking, label in RANKINGS
        if (by_column := list(_values(rows, model, ranking))) and by_column[0]
    ]
    best = ", ".join(f"{row['best_epoch']} of {row['epochs']}" for row in runs)
    scores = _cell([row["validation"] for row in runs])
    metric = results["config"]["evaluation"]["metric"].upper()
    machine = ", ".join(f"{key} {value}" for key, value in results["machine"].items())
    return "\n".join(
        [
            f"{results['users']:,} users, {results['items']:,} items, "
            f"{results['interactions']:,} interactions; {len(runs)} seeds, mean ± standard error; "
            "what only counts has no seed.",
            "",
            table(["ranking by", *(column.upper() for column in COLUMNS)], body),
            "",
            f"Test figures of the best epoch ({best}), chosen by validation {metric} of the "
            f"ensemble, which was {scores} there.",
            "",
            f"<sub>{machine}</sub>",
        ]
    )


def _values(rows: Sequence[Mapping[str, Any]], model: str, ranking: str) -> Iterator[list[float]]:
    """For every column the values of all seeds."""
    mine = [row["metrics"][ranking] for row in rows if row["model"] == model]
    for column in COLUMNS:
        yield [metrics[column] for metrics in mine]


def _cell(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    estimate = Estimate.of(values)
    return f"{estimate.mean:.4f} ± {estimate.error:.4f}"
