"""An evaluation's report as a figure: the slices, and who found the targets (needs matplotlib)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from odmt_fast.evaluation.credit import Credit
from odmt_fast.evaluation.report import EvaluationReport
from odmt_fast.studies.plots import COLOURS, GREY, dress, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_report(report: EvaluationReport, metric: str, out: Path) -> Path:
    """Draws a metric of every ranking in every slice, and below it who found the targets.

    Args:
        report: of an evaluation.
        metric: such as "hr@10".
        out: the PNG; its folder is made where absent.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    credit, slices = report.credit, {"all": report.result, **report.slices}
    heights = [1.2 + 0.75 * len(slices)]
    if credit is not None:
        heights.append(1.2 + 0.32 * len(credit.shares))
    figure = new_figure(height=sum(heights))
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    names = report.result.names
    bar = 0.8 / len(names)
    for row, name in enumerate(names):
        colour = {"ensemble": "#000000", "popularity": GREY}.get(name, COLOURS[row % len(COLOURS)])
        values = [part.value(metric, name) for part in slices.values()]
        panels[0].barh(np.arange(len(slices)) + row * bar, values, bar, color=colour, label=name)
    dress(panels[0], f"{metric.upper()} by what is ranked", "")
    labels = [f"{name}\n({part.n_users:,})" for name, part in slices.items()]
    panels[0].set_yticks(np.arange(len(slices)) + 0.4 - bar / 2, labels)
    panels[0].invert_yaxis()
    panels[0].set_xlabel(metric.upper())
    panels[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    if credit is not None:
        _draw_credit(panels[1], credit)
    return save_figure(figure, out)


def _draw_credit(axes: Axes, credit: Credit) -> None:
    found = [share for share in credit.shares if share.branches or share.ensemble]
    places = np.arange(len(found))
    ensemble = np.array([share.ensemble for share in found])
    missed = [len(share.branches) and share.targets - share.ensemble for share in found]
    axes.barh(places, ensemble, 0.7, color="#000000", label="the ensemble too")
    axes.barh(places, missed, 0.7, left=ensemble, color=COLOURS[5], label="the ensemble not")
    dress(axes, f"Targets found within {credit.k}, by the branches that found them", "")
    labels = [credit.label(share) if share.branches else "ensemble alone" for share in found]
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_xlabel("targets")
    axes.set_xlim(0, 1.05 * max([*(ensemble + np.array(missed)), 1]))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
