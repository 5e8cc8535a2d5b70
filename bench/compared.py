"""Every model of a table against the best baseline, target by target, over all seeds of both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from math import isclose
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import results
from bench.comparison_table import level_of
from bench.places import METRICS, Gains, gains_of, unpacked
from odmt_fast.evaluation import EvaluationResult
from odmt_fast.studies.bootstrap import DRAWS, paired_bootstrap

CHOSEN_BY = "hr@10"
SEED = 1  # of the bootstrap's draws


def compare_rows(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    counted: Mapping[str, EvaluationResult],
    owners: NDArray[np.int64],
    baselines: Collection[str],
) -> None:
    """Writes ``studies/<name>-compared.json``: differences, intervals and p of every model.

    Its models are in the order of `rows`, what only counts first. The baseline is the one with the
    highest HR@10 on the test targets themselves, which favours it.
    An ensemble speaks for its model. What counts only has no seeds.
    Rows that were made before places were kept have none: what the file says of them stays, as long
    as it is the difference of their figures.

    Args:
        name: of the table.
        rows: its runs.
        counted: name -> what counted baselines ranked.
        owners: int64 [B], the user of each target.
        baselines: models that count as such, beside `counted`.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        runs.setdefault(row["model"], []).append(row)
    trained = {model: own for model, own in runs.items() if model not in counted}
    if not trained:
        return
    levels = {
        model: {metric: level_of(own, metric) for metric in METRICS} for model, own in runs.items()
    }
    known = (model for model in levels if model in counted or model in baselines)
    best = max(known, key=lambda model: levels[model][CHOSEN_BY])
    gains: dict[str, Gains] = {model: gains_of(result) for model, result in counted.items()} | {
        model: _mean(own) for model, own in trained.items() if all("places" in row for row in own)
    }
    before = _known(name, best)
    found = []
    for model, metric in product(levels, METRICS):
        if model == best:
            continue
        old = before.get((model, metric))
        gap = levels[model][metric] - levels[best][metric]
        if model in gains and best in gains:
            ours, theirs = gains[model][metric], gains[best][metric]
            difference = paired_bootstrap(ours, theirs, owners, seed=SEED)
            found.append(
                {
                    "model": model,
                    "metric": metric,
                    "seeds": sorted(row["seed"] for row in trained.get(model, ())),
                    "difference": difference.value,
                    "low": difference.low,
                    "high": difference.high,
                    "p": difference.p,
                }
            )
        elif old and isclose(old["difference"], gap, abs_tol=1e-9):
            found.append(old)
    results.save(f"studies/{name}-compared", found, against=best, draws=DRAWS, models=list(levels))


def _mean(rows: Sequence[Mapping[str, Any]]) -> Gains:
    """Mean over the seeds."""
    gains = [unpacked(row["places"]) for row in rows]
    return {metric: np.mean([seed[metric] for seed in gains], axis=0) for metric in METRICS}


def _known(name: str, against: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """What the file says of comparisons with `against`."""
    file = f"studies/{name}-compared"
    found = results.load(file) if (results.FOLDER / f"{file}.json").exists() else {"against": None}
    rows = found["rows"] if found["against"] == against else ()
    return {(row["model"], row["metric"]): row for row in rows}
