"""Every model of a table against the best baseline, target by target, over all seeds of both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import results
from odmt_fast.evaluation import EvaluationResult
from odmt_fast.evaluation.metrics import hit_rate, ndcg
from odmt_fast.evaluation.ranks import ranks_file
from odmt_fast.studies.bootstrap import DRAWS, paired_bootstrap
from odmt_fast.studies.compare import check_comparable, ranks_of

METRICS = {"hr@10": (hit_rate, 10), "ndcg@10": (ndcg, 10)}
CHOSEN_BY = "hr@10"
SEED = 1  # of the bootstrap's draws

Gains = Mapping[str, NDArray[np.float64]]
"""Metric -> [B], what each target adds to it, mean over the seeds."""


def compare_rows(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    counted: Mapping[str, EvaluationResult],
    folder: Callable[[str, int], Path],
    baselines: Collection[str],
) -> None:
    """Writes ``studies/<name>-compared.json``: differences, intervals and p of every model.

    Its models are in the order of `rows`, what only counts first. The baseline is the one with the
    highest HR@10 on the test targets themselves, which favours it.
    An ensemble speaks for its model. What counts only has no seeds.

    Args:
        name: of the table.
        rows: its runs.
        counted: name -> what counted baselines ranked.
        folder: model, seed -> the run.
        baselines: models that count as such, beside `counted`.
    """
    seeds: dict[str, list[int]] = {}
    for row in rows:
        if row["seed"] is not None:
            seeds.setdefault(row["model"], []).append(row["seed"])
    runs = {m: [folder(m, seed) for seed in sorted(found)] for m, found in seeds.items()}
    kept = {
        model: [ranks_of(run) for run in found]
        for model, found in runs.items()
        if all(ranks_file(run, "test").is_file() for run in found)  # made elsewhere, or cleared
    }
    if not kept:
        return
    check_comparable({f"{m} {i}": run for m, found in kept.items() for i, run in enumerate(found)})
    gains: dict[str, Gains] = {model: _gains(result) for model, result in counted.items()} | {
        model: {
            metric: np.mean([run.gains(metric) for run in kept_runs], axis=0) for metric in METRICS
        }
        for model, kept_runs in kept.items()
    }
    some = next(iter(kept.values()))[0]
    users = np.unique(some.users, return_inverse=True)[1].astype(np.int64)
    known = [model for model in (*counted, *baselines) if model in gains]
    best = max(known, key=lambda model: gains[model][CHOSEN_BY].mean())
    found = []
    for model in gains:
        for metric in METRICS:
            if model == best:
                continue
            ours, theirs = gains[model][metric], gains[best][metric]
            difference = paired_bootstrap(ours, theirs, users, seed=SEED)
            found.append(
                {
                    "model": model,
                    "metric": metric,
                    "seeds": sorted(seeds.get(model, [])),
                    "difference": difference.value,
                    "low": difference.low,
                    "high": difference.high,
                    "p": difference.p,
                }
            )
    results.save(f"studies/{name}-compared", found, against=best, draws=DRAWS, models=list(gains))


def _gains(result: EvaluationResult) -> Gains:
    return {
        metric: function(result.ranks[0], result.ties[0], k).numpy()
        for metric, (function, k) in METRICS.items()
    }
