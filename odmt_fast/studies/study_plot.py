"""A study as a figure: a row of dots for each row of the grid (needs matplotlib)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from odmt_fast.studies.plots import COLOURS, GREY, dress, new_figure, save_figure


def plot_study(
    values: Mapping[str, tuple[float, ...]], metric: str, out: Path, *, against: str | None = None
) -> Path:
    """Draws the mean of every row with its standard error over the seeds, and each seed as a ring.

    Args:
        values: row -> the metric with every seed.
        metric: its name.
        out: the PNG.
        against: row whose mean is drawn through all of them.
    """
    figure = new_figure(height=1.4 + 0.42 * len(values))
    axes = figure.add_subplot()
    for place, (name, found) in enumerate(values.items()):
        mean, several = float(np.mean(found)), len(found) > 1
        error = float(np.std(found, ddof=1) / len(found) ** 0.5) if several else None
        colour = COLOURS[2] if name == against else COLOURS[0]
        if several:
            axes.plot(
                found,
                [place] * len(found),
                "o",
                markersize=5,
                markerfacecolor="none",
                markeredgecolor=GREY,
                zorder=2,
            )
        axes.errorbar(
            mean,
            place,
            xerr=error,
            fmt="o",
            color=colour,
            markersize=7,
            capsize=4,
            linewidth=1.8,
            zorder=3,
        )
    if against is not None:
        mean = float(np.mean(values[against]))
        axes.axvline(mean, color=COLOURS[2], linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    seeds = len(next(iter(values.values())))
    dress(axes, f"Test {metric.upper()}, whole catalogue", "")
    told = f" (mean ± standard error; rings: {seeds} seeds)" if seeds > 1 else ""
    axes.set_xlabel(metric.upper() + told)
    axes.set_yticks(range(len(values)), list(values))
    axes.set_ylim(len(values) - 0.5, -0.5)
    axes.margins(x=0.08)
    return save_figure(figure, out)
