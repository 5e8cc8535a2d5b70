"""The tables of a paper: every model with every seed on one dataset, the same settings for all.

``python -m bench.comparison movielens --seeds 3`` prepares the shared data, extracts features,
counts, and trains every row of examples/studies/movielens.yaml. A finished run is written to
``bench/results/studies/movielens.json`` at once; begun anew, the study goes on where it stopped,
inside a training too. Started twice, two processes share the runs: each takes what the other does
not work at. ``--only NAME`` runs some rows, ``--plan`` trains one epoch of each and tells what all
would cost. At the end all rows are compared with the best baseline, target by target, and
``make report`` writes the tables of docs/results.md. ``movielens-ablation`` and ``beauty-ablation``
vary one setting of ODMT at a time (temperature, weight of the distillation, mask, teacher, layers).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench import results
from bench.ablation_plot import SUFFIX
from bench.compared import compare_rows
from bench.places import packed
from bench.table import table
from bench.trainings import (
    COUNTED,
    SOURCES,
    metrics_of,
    minilm,
    prepared_dataset,
    present,
    run,
    settings_of,
    sizes_of,
    trained,
    without_folders,
)
from odmt_fast.cli.settings import load_grid
from odmt_fast.config import Config
from odmt_fast.storage import FolderInUseError
from odmt_fast.studies.ablation import BASE, PARTS, ablation
from odmt_fast.studies.baselines import run_baselines
from odmt_fast.studies.grid import Grid
from odmt_fast.workflow.workspace import Workspace

STUDIES = results.ROOT / "examples" / "studies"
TITLES = ("--kind", "table", "--text-columns", "title")
TIME = (*TITLES, "--split", "time")

Words = tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """What is trained on what.

    Attributes:
        name: of the table.
        source: the data.
        grid_file: rows and settings, as ``odmt-fast study`` reads them.
        features: makes, in a folder, what the words of ``odmt-fast extract`` name; by modality.
        prepare: words of ``odmt-fast prepare``; none = the official layout.
        counted: baselines that only count.
    """

    name: str
    source: Path
    grid_file: Path
    features: Mapping[str, Callable[[Path, Path], Words]]
    prepare: Words = ()
    counted: tuple[str, ...] = COUNTED

    def grid(self, dataset: Path) -> Grid:
        """The rows, on `dataset`; the seeds are the caller's."""
        return load_grid(self.grid_file, (), {"data.path": dataset})

    @property
    def work(self) -> Path:
        """Where data, features and runs lie unless ``--work`` says otherwise."""
        return results.ROOT / "runs" / "comparison" / self.name

    def baselines(self, grid: Grid) -> list[str]:
        """The rows that the others are to beat, beside what is counted."""
        return [name for name, config in grid.rows.items() if config.model.name != "odmt"]

    def prepared(self, work: Path) -> tuple[Path, dict[str, list[str]]]:
        """The dataset with its features, made in `work`, and by which words they were.

        Of two processes the second one waits, and finds all of it.
        """
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "prepared.lock"):
            dataset, told = prepared_dataset(self.source, work, *self.prepare), {}
            for modality, words in self.features.items():
                made = words(self.source, work)
                run("extract", str(dataset), "--modality", modality, *made)
                told[modality] = without_folders(made)
        return dataset, told


@dataclass(frozen=True)
class Ablation(Study):
    """One setting at a time around the row ``odmt`` of a grid, against that row.

    Its name is that of the study around which it varies, and "-ablation".
    """

    counted: tuple[str, ...] = ()

    def grid(self, dataset: Path) -> Grid:
        """The rows of `odmt_fast.studies.ablation`."""
        base = super().grid(dataset).rows["odmt"]
        stores = Workspace.open(base).with_default_stores().stores()
        dims = {name: store.dim for name, store in stores.items()}
        return ablation(base, dims, PARTS, [1])

    @property
    def work(self) -> Path:
        """That of the study around which it varies: the features are the same."""
        return super().work.with_name(self.name.removesuffix(SUFFIX))

    def baselines(self, grid: Grid) -> list[str]:
        """The row as given."""
        return [BASE]


def text_words(source: Path, work: Path) -> Words:
    """The sentence vector of MiniLM, a mean over at most 30 tokens."""
    return ("--encoder", str(minilm()), "--max-tokens", "30", "--pool", "mean")


def image_words(source: Path, work: Path) -> Words:
    """The mean of EfficientNet-Lite2's last map."""
    encoder = "./examples/efficientnet_lite.py:lite2"
    return ("--encoder", encoder, "--batch-size", "4", "--pool", "mean")


def genre_words(source: Path, work: Path) -> Words:
    """Genres as vectors, cut out of the texts."""
    vectors = work / "genres.parquet"
    script = results.ROOT / "examples" / "genres.py"
    subprocess.run([sys.executable, script, source / "text.tsv", vectors], check=True)
    return ("--vectors", str(vectors), "--missing-vectors", "allow")


ALL = {"text": text_words, "image": image_words, "genres": genre_words}
TEXT = {"text": text_words}

TABLES = {
    study.name: study
    for study in (
        Study("movielens", SOURCES / "movielens-posters", STUDIES / "movielens.yaml", ALL),
        Ablation(
            "movielens-ablation",
            SOURCES / "movielens-posters",
            STUDIES / "movielens.yaml",
            {"text": text_words, "image": image_words},
        ),
        Study("beauty", SOURCES / "amazon-beauty", STUDIES / "titles.yaml", TEXT, TITLES),
        Ablation(
            "beauty-ablation", SOURCES / "amazon-beauty", STUDIES / "titles.yaml", TEXT, TITLES
        ),
        Study("beauty-time", SOURCES / "amazon-beauty", STUDIES / "titles.yaml", TEXT, TIME),
        Study("food", SOURCES / "food", STUDIES / "titles.yaml", TEXT, TITLES),
        Study("food-time", SOURCES / "food", STUDIES / "titles.yaml", TEXT, TIME),
    )
}
"""The studies by name."""


def run_study(
    study: Study, seeds: Sequence[int], work: Path, *, only: Collection[str] = (), fresh: bool
) -> None:
    """Runs what is missing, a seed after the other; data, features and runs lie in `work`."""
    dataset, told = study.prepared(work)
    grid = study.grid(dataset)
    chosen = _chosen(grid, only)
    workspace = Workspace.open(grid.base)
    head = {
        "source": study.source.name,
        "split": workspace.split.kind,
        "features": told,
        "config": settings_of(grid.base),
        **sizes_of(workspace),
    }
    record = results.Record(f"studies/{study.name}", head, ("model", "seed"), fresh=fresh)
    _check_rows(record, grid)
    counted = run_baselines(
        workspace.split, workspace.data.n_items, grid.base, study.counted, print
    )
    for name, result in counted.items():
        row = {"model": name, "seed": None, "settings": {}, "metrics": metrics_of(result)}
        record.add(row)
    for seed in seeds:
        for name, config in chosen.items():
            if record.has(model=name, seed=seed):
                continue
            print(f"{name}, seed {seed}", flush=True)
            own = {"training.seed": seed, "training.output": folder_of(work, name, seed)}
            try:
                found, figures = trained(config.updated(own), resume=not fresh)
            except FolderInUseError as busy:
                print(f"left to the other process: {busy}", flush=True)
                continue
            settings = {key: _json(value) for key, value in grid.changes[name].items()}
            assert found.test is not None
            record.add(
                {
                    "model": name,
                    "seed": seed,
                    "settings": settings,
                    **figures,
                    "places": packed(found.test),
                }
            )
    places = {name: place for place, name in enumerate(grid.rows)}
    compare_rows(
        study.name,
        sorted(record.rows(), key=lambda row: places.get(row["model"], -1)),
        counted,
        workspace.owners("test"),
        study.baselines(grid),
    )


def _chosen(grid: Grid, only: Collection[str]) -> dict[str, Config]:
    """The rows that ``--only`` names; all, where it names none."""
    if unknown := set(only) - set(grid.rows):
        raise ValueError(f"--only {unknown.pop()!r} is not one of: {', '.join(grid.rows)}")
    return {name: config for name, config in grid.rows.items() if not only or name in only}


def folder_of(work: Path, model: str, seed: int) -> Path:
    """Where a run lies."""
    return work / "runs" / model / f"seed-{seed}"


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_rows(record: results.Record, grid: Grid) -> None:
    for row in record.rows():
        name = row["model"]
        if name in grid.changes and row["settings"] != grid.changes[name]:
            raise ValueError(
                f"row {name} was made with {row['settings']}, the file says {grid.changes[name]}; "
                "give the row another name, or pass --fresh to make all anew"
            )


def plan(study: Study, seeds: int, work: Path, *, only: Collection[str] = ()) -> None:
    """Trains one epoch of every row and prints what it takes; no result is written."""
    dataset, _ = study.prepared(work)
    body, total = [], 0.0
    for name, config in _chosen(study.grid(dataset), only).items():
        output = work / "plan" / name
        _, figures = trained(
            config.updated({"training.epochs": 1, "training.output": output}), resume=False
        )
        seconds = figures["epoch_cpu_seconds"]
        most = seconds * config.training.epochs / 60
        total += seeds * most
        body.append([name, f"{seconds:.1f}", str(config.training.epochs), f"{most:.0f}"])
        print(f"{name}: {seconds:.1f} CPU s an epoch", flush=True)
    print(table(["row", "CPU s per epoch", "epochs at most", "CPU min at most"], body))
    print(f"{seeds} seeds: at most {total / 60:.1f} CPU hours")


def main() -> None:
    """Runs what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=3, help="1 to N")
    parser.add_argument("--only", action="append", default=[], metavar="ROW")
    parser.add_argument("--work", type=Path, help="default: runs/comparison/TABLE")
    parser.add_argument("--plan", action="store_true", help="train one epoch of each, and tell")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    options = parser.parse_args()
    study = TABLES[options.table]
    present(study.source)
    work = options.work or study.work
    if options.plan:
        plan(study, options.seeds, work, only=options.only)
    else:
        seeds = range(1, options.seeds + 1)
        run_study(study, seeds, work, only=options.only, fresh=options.fresh)


if __name__ == "__main__":
    main()
