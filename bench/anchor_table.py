"""The part of docs/results.md that `bench.anchor` measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.cpu_seconds import COLUMN, cell, machines, processors
from bench.table import table

NAME = "studies/anchor"
MARKS = ("<!-- anchor -->", "<!-- /anchor -->")
METRICS = ("hr@10", "ndcg@10")
PUBLISHED = {
    "SASRec as first reported": (0.0605, 0.0318),
    "HSTU": (0.0788, 0.0439),
    "SASRec, 256 uniform negatives": (0.0921, 0.0531),
    "eSASRec": (0.0928, 0.0523),
}
"""Recall@10 (one target: HR@10) and NDCG@10 of the README of blondered/transformer_benchmark."""


def section(results: Mapping[str, Any]) -> str:
    """A line for every kind of candidates, below the published ones."""
    letters = processors(results["rows"])
    published = [
        [f"published: {name}", *(f"{value:.4f}" for value in values), "", ""]
        for name, values in PUBLISHED.items()
    ]
    ours = [
        [
            row["model"] if row["seed"] == 1 else f"{row['model']}, seed {row['seed']}",
            *(f"{row['metrics'][column]:.4f}" for column in METRICS),
            f"{row['best_epoch']} of {row['epochs']}",
            cell([row], letters),
        ]
        for row in results["rows"]
    ]
    model, training = results["config"]["model"], results["config"]["training"]
    return "\n".join(
        [
            f"{results['targets']:,} test targets, {results['items']:,} items, "
            f"{results['interactions']:,} interactions. Width {model['width']}, "
            f"{model['user_layers']} block, {model['user_heads']} head, dropout "
            f"{model['dropout']}, of items {model['item_dropout']}, {model['max_seq_len']} steps, "
            f"{model['draws']:,} draws "
            f"by popularity^{model['draw_power']:g}, batch {training['batch_size']}, learning rate "
            f"{training['learning_rate']}, patience {training['patience']}; the best epoch is that "
            f"of the validation's {results['config']['evaluation']['metric'].upper()}.",
            "",
            table(
                ["run", "HR@10", "NDCG@10", "best epoch", COLUMN],
                [*published, *ours],
            ),
            "",
            "CPU-seconds of the process divided by its epochs, validation included.",
            "",
            machines(results, letters),
        ]
    )
