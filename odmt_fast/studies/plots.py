"""Figures of a run, drawn from its CSV logs alone (needs matplotlib).

Colours are those of Okabe and Ito, which people with any colour vision tell apart; every line also
has its own marker or dash.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from odmt_fast.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ENSEMBLE, _YARDSTICK = "ensemble", "popularity"
COLOURS = ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#E69F00")
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)), (0, (9, 2)), (0, (1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
GREY, _DARK_GREY = "#8c8c8c", "#5c5c5c"

Columns = dict[str, NDArray[np.float64]]


def plot_run(run: Path, out: Path | None = None, metric: str = "hr@10") -> tuple[Path, ...]:
    """Draws ``losses.png`` and ``<metric>.png`` from the logs of a run.

    Args:
        run: the run's directory, with ``logs/steps.csv`` and ``logs/epochs.csv``.
        out: where the figures go, made where absent; None = ``<run>/plots``.
        metric: one of the evaluated ones.

    Raises:
        ValueError: a log is absent or empty, or the metric was not logged.
    """
    out = out or run / "plots"
    out.mkdir(parents=True, exist_ok=True)
    losses = plot_losses(run / "logs" / "steps.csv", out / "losses.png")
    quality = plot_metric(
        run / "logs" / "epochs.csv", out / f"{metric.replace('@', '_at_')}.png", metric
    )
    return losses, quality


def plot_losses(steps: Path, out: Path) -> Path:
    """Cross entropy of each branch, and each distillation term, over the steps of a run.

    Raises:
        ValueError: the log is absent or empty.
    """
    log = read_log(steps)
    terms = {term: _with_term(log, term) for term in ("ce", "kd")}
    # A single loss has no further name.
    branches = terms["ce"] or {"": log["loss"]}
    students = terms["kd"]
    figure = new_figure(height=6.4 if students else 3.8)
    # Sharing the axis of steps lines the panels up.
    top = figure.add_subplot(2, 1, 1) if students else figure.add_subplot()
    for index, (name, values) in enumerate(branches.items()):
        _curve(top, log["step"], values, index, name or "loss")
    dress(top, "Cross entropy of each branch", "nats per target")
    _legend(top)
    if students:
        bottom = figure.add_subplot(2, 1, 2, sharex=top)
        for name, values in students.items():
            index = [*branches].index(name) if name in branches else len(branches)
            _curve(bottom, log["step"], values, index, name)
        dress(bottom, "Distillation of each student, before the ramp-up weight", "nats per target")
        _legend(bottom)
    figure.axes[-1].set_xlabel("training step")
    return save_figure(figure, out)


def plot_metric(epochs: Path, out: Path, metric: str = "hr@10") -> Path:
    """A validation metric of each branch and the ensemble over the epochs of a run.

    Raises:
        ValueError: the log is absent or empty, or does not hold the metric.
    """
    log = read_log(epochs)
    names = [name.removesuffix(f"/{metric}") for name in log if name.endswith(f"/{metric}")]
    if not names:
        known = sorted({name.rpartition("/")[2] for name in log if "@" in name})
        raise ValueError(f"{metric!r} is not in {epochs}; it has {', '.join(known) or 'no metric'}")
    figure = new_figure(height=4.2)
    axes = figure.add_subplot()
    index = 0
    for name in names:
        values = log[f"{name}/{metric}"]
        if name == _YARDSTICK:
            axes.plot(
                log["epoch"],
                values,
                color=GREY,
                linestyle=(0, (3, 2)),
                linewidth=1.4,
                label=name,
            )
            continue
        leading = name == _ENSEMBLE
        axes.plot(
            log["epoch"],
            values,
            color="#000000" if leading else COLOURS[index % len(COLOURS)],
            marker="*" if leading else _MARKERS[index % len(_MARKERS)],
            markersize=8 if leading else 4.5,
            linewidth=2.4 if leading else 1.5,
            zorder=3 if leading else 2,
            label=name,
        )
        index += not leading
    if "score" in log:
        best = int(log["score"].argmax())
        axes.axvline(log["epoch"][best], color=GREY, linewidth=0.8, zorder=1)
        axes.annotate(
            "best epoch",
            (log["epoch"][best], 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if best > len(log["epoch"]) / 2 else 4, 4),
            textcoords="offset points",
            ha="right" if best > len(log["epoch"]) / 2 else "left",
            va="bottom",
            color=_DARK_GREY,
            fontsize=8.5,
        )
    dress(axes, f"Validation {metric.upper()}, whole catalogue", metric.upper())
    axes.set_xlabel("epoch")
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", integer=True)
    _legend(axes)
    return save_figure(figure, out)


def read_log(path: Path) -> Columns:
    """Columns of a CSV log of numbers.

    Raises:
        ValueError: the file is absent or holds no row yet.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the directory of a run that has trained")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f"{path} holds no row yet; train further")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def _with_term(log: Columns, term: str) -> Columns:
    """``<name>/<term>`` columns by name."""
    suffix = f"/{term}"
    return {name.removesuffix(suffix): log[name] for name in log if name.endswith(suffix)}


def _curve(
    axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], index: int, label: str
) -> None:
    """The values as a faint line, their running mean on top of it."""
    colour = COLOURS[index % len(COLOURS)]
    dash = _DASHES[index % len(_DASHES)]
    window = max(1, len(y) // 40)
    if window > 1:
        axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
    axes.plot(x, _running_mean(y, window), color=colour, linestyle=dash, linewidth=1.8, label=label)


def _running_mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over up to `window` values on either side, fewer at the ends."""
    total = np.concatenate([[0.0], values.cumsum()])
    place = np.arange(len(values))
    first, last = np.maximum(place - window, 0), np.minimum(place + window + 1, len(values))
    means: NDArray[np.float64] = (total[last] - total[first]) / (last - first)
    return means


def new_figure(height: float) -> Figure:
    """An empty page of the width of a column, `height` inches high."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, title: str, ylabel: str) -> None:
    """Title, label, and nothing that competes with the lines."""
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.set_ylabel(ylabel)
    axes.grid(color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes) -> None:
    """Beside the lines, never over them."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def save_figure(figure: Figure, out: Path) -> Path:
    """Writes a PNG and returns its path."""
    write_atomically(out, lambda part: figure.savefig(part, format="png"))
    return out
