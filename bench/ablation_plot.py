"""The pictures of an ablation of `bench.comparison`, from its file of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import results
from odmt_fast.studies.ablation import BASE
from odmt_fast.studies.plots import COLOURS, dress, new_figure, save_figure
from odmt_fast.studies.study_plot import plot_study

SUFFIX = "-ablation"
"""How the names of ablations end."""
METRIC = "hr@10"
IMAGES = results.ROOT / "docs" / "images"


def draw(
    name: str, found: Mapping[str, Any], models: Sequence[str], folder: Path = IMAGES
) -> tuple[Path, ...]:
    """A dot for every row; and where temperatures were varied, every ranking against them.

    Args:
        name: of the ablation.
        found: its file of results.
        models: its rows, in the order of the dots.
        folder: where the pictures go.
    """
    rows: dict[str, list[Mapping[str, Mapping[str, float]]]] = {model: [] for model in models}
    for row in found["rows"]:
        rows.setdefault(row["model"], []).append(row["metrics"])
    folder.mkdir(parents=True, exist_ok=True)
    values = {row: tuple(m["ensemble"][METRIC] for m in runs) for row, runs in rows.items()}
    against = BASE if BASE in rows else None
    drawn = (plot_study(values, METRIC, folder / f"{name}.png", against=against),)
    by_tau = {float(row[4:]): runs for row, runs in rows.items() if row.startswith("tau=")}
    if against and by_tau:
        by_tau[found["config"]["model"]["tau"]] = rows[BASE]
        drawn += (_temperatures(by_tau, folder / f"{name}-tau.png"),)
    return drawn


def _temperatures(
    by_tau: Mapping[float, list[Mapping[str, Mapping[str, float]]]], out: Path
) -> Path:
    taus = sorted(by_tau)
    figure = new_figure(height=3.6)
    axes = figure.add_subplot()
    names = [name for name in by_tau[taus[0]][0] if name != "popularity"]
    for place, name in enumerate(names):
        means = [np.mean([run[name][METRIC] for run in by_tau[tau]]) for tau in taus]
        colour = "#000000" if name == "ensemble" else COLOURS[place]
        axes.plot(taus, means, "o-", color=colour, label=name)
    dress(axes, "Test HR@10 by temperature", METRIC.upper())
    axes.set_xlabel("temperature of the distillation")
    axes.legend(frameon=False)
    return save_figure(figure, out)
