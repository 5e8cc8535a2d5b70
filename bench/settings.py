"""What the main settings do: one at a time around ``--preset small``, on movielens-posters-mini.

``python -m bench.settings --seeds 3`` trains every value of every setting (a study, which goes on
where it stopped; about a CPU-minute a run, 11 runs a seed) and writes
``bench/results/settings.json`` and ``docs/images/settings.png`` for docs/choosing-settings.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import results
from bench.trainings import SOURCES, run
from odmt_fast.config import Config
from odmt_fast.presets import PRESETS
from odmt_fast.studies.grid import Grid
from odmt_fast.studies.plots import COLOURS, GREY, dress, new_figure, save_figure
from odmt_fast.studies.study import run_study
from odmt_fast.training.report import PlainReporter
from odmt_fast.workflow.workspace import default_store

NAME = "settings"
ENCODERS = {"text": "hashed-words", "image": "pca-patches"}
VALUES: Mapping[str, Sequence[Any]] = {
    "model.alpha": (0.0, 0.02, 0.2, 20.0, 100.0),
    "model.dropout": (0.0, 0.1, 0.3),
    "training.learning_rate": (0.001, 0.002, 0.004),
    "model.width": (16, 32, 64),
}
METRICS = ("hr@10", "ndcg@10")


def prepared(work: Path) -> Config:
    """``--preset small`` with dataset and stores, made in `work` where they are not there."""
    dataset = work / "dataset"
    if not (dataset / "dataset.json").is_file():
        run("prepare", str(SOURCES / "movielens-posters-mini"), str(dataset))
    stores = {}
    for modality, encoder in ENCODERS.items():
        stores[modality] = default_store(dataset, modality)
        run("extract", str(dataset), "--modality", modality, "--encoder", encoder)
    paths = {"data.path": dataset, "features.stores": stores}
    same = {"training.patience": 50, "training.precision": "fp32", "training.tensorboard": False}
    return PRESETS["small"].updated({**paths, **same})


def rows(base: Config) -> dict[str, dict[str, Any]]:
    """A row for each value that is not the preset's, beside the preset itself."""
    found: dict[str, dict[str, Any]] = {"small": {}}
    for setting, values in VALUES.items():
        for value in values:
            if value != _value(base, setting):
                found[f"{setting.partition('.')[2]}={value}"] = {setting: value}
    return found


def plot(record: Sequence[Mapping[str, Any]], out: Path) -> Path:
    """A panel for each setting: test NDCG@10 at each of its values, a ring for each seed."""
    figure = new_figure(height=3.0)
    rows = {row["row"]: row for row in record}
    first = None
    for place, (setting, values) in enumerate(VALUES.items(), 1):
        first = axes = figure.add_subplot(1, len(VALUES), place, sharey=first)
        name = setting.partition(".")[2]
        found = [rows.get(f"{name}={value}", rows["small"])["ndcg@10"] for value in values]
        for x, seeds in enumerate(found):
            axes.plot([x] * len(seeds), seeds, "o", markerfacecolor="none", markeredgecolor=GREY)
        axes.plot(range(len(values)), [np.mean(seeds) for seeds in found], color=COLOURS[0])
        chosen = [f"{name}={value}" not in rows for value in values].index(True)
        axes.plot(chosen, np.mean(found[chosen]), "o", color=COLOURS[2], zorder=3)
        dress(axes, name.replace("_", " "), "test NDCG@10" if place == 1 else "")
        axes.set_xticks(range(len(values)), [f"{value:g}" for value in values], fontsize=8)
        axes.tick_params(axis="y", labelleft=place == 1)
        axes.set_ylim(bottom=0)
    return save_figure(figure, out)


def main(words: Sequence[str] | None = None) -> None:
    """Trains, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1)
    work = Path(tempfile.gettempdir()) / "odmt_fast_settings"
    parser.add_argument("--work", type=Path, default=work, help="data and runs")
    asked = parser.parse_args(words)
    base = prepared(asked.work)
    grid = Grid.of({"rows": rows(base), "seeds": [*range(1, asked.seeds + 1)]}, base)
    study = run_study(
        grid, asked.work / "study", lambda metric: PlainReporter(), print, jobs=asked.jobs
    )
    found = [
        {"row": name, **{metric: list(values[metric]) for metric in METRICS}}
        for name, values in study.values.items()
    ]
    results.save(NAME, found, preset="small", data="movielens-posters-mini", seeds=asked.seeds)
    print(plot(results.load(NAME)["rows"], results.ROOT / "docs" / "images" / "settings.png"))


def _value(config: Config, setting: str) -> Any:
    section, _, name = setting.partition(".")
    return getattr(getattr(config, section), name)


if __name__ == "__main__":
    main()
