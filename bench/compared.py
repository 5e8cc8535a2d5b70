"""Every model of a table against the best baseline, target by target, over all seeds of both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import results
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
    Rows that were made before places were kept have none: what the file says of them stays.

    Args:
        name: of the table.
        rows: its runs.
        counted: name -> what counted baselines ranked.
        owners: int64 [B], the user of each target.
        baselines: models that count as such, beside `counted`.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["seed"] is not None:
            runs.setdefault(row["model"], []).append(row)
    if not runs:
        return
    level = {model: gains_of(result)[CHOSEN_BY].mean() for model, result in counted.items()}
    level |= {model: np.mean([_level(row) for row in found]) for model, found in runs.items()}
    best = max((model for model in level if model in {*counted, *baselines}), key=level.__getitem__)
    gains: dict[str, Gains] = {model: gains_of(result) for model, result in counted.items()} | {
        model: _mean(found)
        for model, found in runs.items()
        if all("places" in row for row in found)
    }
    seeds = {model: sorted(row["seed"] for row in runs.get(model, ())) for model in level}
    known = _known(name, best)
    found = []
    for model in level:
        for metric in METRICS:
            if model == best:
                continue
            if model in gains and best in gains:
                ours, theirs = gains[model][metric], gains[best][metric]
                difference = paired_bootstrap(ours, theirs, owners, seed=SEED)
                found.append(
                    {
                        "model": model,
                        "metric": metric,
                        "seeds": seeds[model],
                        "difference": difference.value,
                        "low": difference.low,
                        "high": difference.high,
                        "p": difference.p,
                    }
                )
            elif (old := known.get((model, metric))) and old["seeds"] == seeds[model]:
                found.append(old)
    results.save(f"studies/{name}-compared", found, against=best, draws=DRAWS, models=list(level))


def _level(row: Mapping[str, Any]) -> float:
    metrics = row["metrics"]
    best: float = metrics.get("ensemble", next(iter(metrics.values())))[CHOSEN_BY]
    return best


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
