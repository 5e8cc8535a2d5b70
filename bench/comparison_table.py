"""The parts of docs/results.md that `bench.comparison` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.cpu_seconds import COLUMN, cell, machines, processors
from bench.paired import Estimate
from bench.places import METRICS
from bench.table import table
from odmt_fast.evaluation.result import best_ranking
from odmt_fast.studies.ablation import BASE

COUNTED = {
    "popularity": "popularity",
    "co-occurrence": "item co-occurrence",
    "markov": "first-order Markov",
}


def marks(name: str) -> tuple[str, str]:
    """What the table of a study stands between."""
    return f"<!-- table {name} -->", f"<!-- /table {name} -->"


def section(found: Mapping[str, Any], compared: Mapping[str, Any] | None) -> str:
    """A line for every model, in the order of `compared`, and below it its branches.

    Args:
        found: file of the runs.
        compared: file of the comparisons with the best baseline, where there is one.
    """
    models: dict[str, list[Mapping[str, Any]]]
    models = {name: [] for name in (compared["models"] if compared else ())}
    for row in found["rows"]:
        models.setdefault(row["model"], []).append(row)
    tests = {(row["model"], row["metric"]): row for row in (compared or {"rows": []})["rows"]}
    against = compared["against"] if compared else ""
    levels = {metric: level_of(models[against], metric) for metric in METRICS} if against else {}
    letters = processors(found["rows"])
    body = []
    for model, runs in models.items():
        rankings = [name for name in runs[0]["metrics"] if name != "popularity" or model == name]
        best = best_ranking(rankings)
        label = COUNTED.get(model, model)
        body.append(
            [
                f"{label} (the best baseline)" if model == against != BASE else label,
                *_cells(runs, best),
                *(_tested(tests.get((model, m)), levels.get(m)) for m in METRICS),
                _validated(runs),
                ", ".join(f"{r['best_epoch']} of {r['epochs']}" for r in runs if r["seed"]),
                cell(runs, letters),
            ]
        )
        body += [
            [f"· {name} branch", *_cells(runs, name), *[""] * 5]
            for name in rankings
            if name != best
        ]
    head = ["ranking by", *(metric.upper() for metric in METRICS)]
    head += [f"{metric.upper()} gained (p)" for metric in METRICS]
    seeds = max(len([r for r in runs if r["seed"]]) for runs in models.values())
    told = f"up to {seeds} seeds, mean ± standard error" if seeds > 1 else "one seed"
    told += f"; validation: {found['config']['evaluation']['metric'].upper()} that chose the epoch"
    return "\n".join(
        [
            f"{found['targets']:,} test targets, {found['items']:,} items, "
            f"{found['interactions']:,} interactions, split {found['split']}; {told}. "
            f"{settings_line(found['config'])}, but for what a row is about.",
            "",
            table([*head, "validation", "best epoch", COLUMN], body),
            "",
            *(_about(compared) if compared else ()),
            machines(found, letters),
        ]
    )


def settings_line(config: Mapping[str, Any]) -> str:
    """What decides the figures of a study, of its ``config``; no full stop."""
    model, training = config["model"], config["training"]
    inside = model.get("item_encoder_dropout")  # older files do not know it
    within = "" if inside is None else f", inside their encoder {inside}"
    return (
        f"Width {model['width']}, {model['max_seq_len']} steps, dropout {model['dropout']}, of "
        f"items {model['item_dropout']}{within}, candidates {model['candidates']}, batch "
        f"{training['batch_size']}, learning rate {training['learning_rate']}, at most "
        f"{training['epochs']} epochs, patience {training['patience']}"
    )


def _about(compared: Mapping[str, Any]) -> tuple[str, str]:
    against = compared["against"]
    best = "the baseline with the highest test HR@10"
    which = "the row `odmt` of the study's file" if against == BASE else best
    return (
        f"Gained over {against}, {which}, as a share of its figure; two-sided p of a paired "
        f"bootstrap over users, {compared['draws']:,} draws; a target counts with its mean over "
        "the seeds.",
        "",
    )


def _validated(runs: Sequence[Mapping[str, Any]]) -> str:
    return _mean([run["validation"] for run in runs]) if "validation" in runs[0] else ""


def level_of(runs: Sequence[Mapping[str, Any]], metric: str) -> float:
    """Mean over the seeds, of the ranking that speaks for the model."""
    return fmean(run["metrics"][best_ranking([*run["metrics"]])][metric] for run in runs)


def _cells(runs: Sequence[Mapping[str, Any]], ranking: str) -> list[str]:
    return [_mean([run["metrics"][ranking][metric] for run in runs]) for metric in METRICS]


def _mean(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    estimate = Estimate.of(values)
    return f"{estimate.mean:.4f} ± {estimate.error:.4f}"


def _tested(row: Mapping[str, Any] | None, level: float | None) -> str:
    """What is gained, as a share of the baseline's `level`."""
    return f"{row['difference'] / level:+.1%} ({row['p']:.4f})" if row and level else ""
