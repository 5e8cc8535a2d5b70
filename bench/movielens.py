"""MovieLens with posters and overviews, several seeds: ODMT against what it has to beat.

``python -m bench.movielens --seeds 3`` prepares the shared data, extracts features, and for every
seed trains ODMT (examples/movielens.yaml) and SASRec on IDs, the latter with the same budget and
once more with dropout and 100 epochs. A finished run is written to ``bench/results/movielens.json``
at once; begun anew, the study goes on where it stopped, inside a training too. ``make report``
writes the table of docs/results.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import results
from bench.trainings import (
    COUNTED,
    SHARED,
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
from odmt_fast.cli.settings import load_config
from odmt_fast.config import Config
from odmt_fast.studies.baselines import run_baselines
from odmt_fast.workflow.workspace import MODALITIES, Workspace, default_store

EXAMPLE = results.ROOT / "examples" / "movielens.yaml"
NAME = "movielens"
LONG = {"model.dropout": 0.1, "training.epochs": 100, "training.patience": 100}
"""What the second SASRec has for the settings of the first."""


@dataclass(frozen=True)
class Study:
    """What is trained on what.

    Attributes:
        source: the data, in the official layout.
        encoders: modality -> words of ``odmt-fast extract``.
        config: of all runs, but for seeds and paths.
        long: settings of the second SASRec.
    """

    source: Path
    encoders: Mapping[str, tuple[str, ...]]
    config: Config
    long: Mapping[str, Any]

    @classmethod
    def movielens(cls) -> Study:
        """The one of docs/results.md.

        Raises:
            FileNotFoundError: data or encoders are absent.
        """
        text, image = minilm(), SHARED / "encoders" / "mobilenet_v1_025"
        source = SOURCES / "movielens-posters"
        present(text, image, source)
        encoders = {
            "text": ("--encoder", str(text), "--max-tokens", "30"),
            "image": ("--encoder", str(image)),
        }
        return cls(source, encoders, load_config(EXAMPLE, None), LONG)

    def prepared(self, work: Path) -> Config:
        """The configuration with dataset and stores, made in `work` where they are not there."""
        dataset = prepared_dataset(self.source, work)
        for modality in MODALITIES:
            run("extract", str(dataset), "--modality", modality, *self.encoders[modality])
        stores = {modality: default_store(dataset, modality) for modality in MODALITIES}
        return self.config.updated({"data.path": dataset, "features.stores": stores})


def head_of(study: Study, workspace: Workspace) -> dict[str, Any]:
    """What all runs of a study share, as JSON values."""
    return {
        "source": study.source.name,
        "encoders": {
            modality: without_folders(words) for modality, words in study.encoders.items()
        },
        "config": settings_of(study.config),
        "long": dict(study.long),
        **sizes_of(workspace),
    }


def run_study(study: Study, seeds: int, work: Path, *, fresh: bool = False) -> None:
    """Runs what is missing for seeds 1 to `seeds`; data, features and runs lie in `work`."""
    config = study.prepared(work)
    workspace = Workspace.open(config)
    head = head_of(study, workspace)
    record = results.Record(NAME, head, ("model", "seed"), fresh=fresh)

    def make(model: str, seed: int | None, train: Callable[[], Mapping[str, Any]]) -> None:
        if record.has(model=model, seed=seed):
            return
        print(f"{model}, seed {seed}", flush=True)
        began = time.perf_counter()
        row = {"model": model, "seed": seed, **train()}
        record.add({"seconds": round(time.perf_counter() - began, 1), **row})

    def baselines(settings: Config, *names: str) -> dict[str, Any]:
        found = run_baselines(
            workspace.split, workspace.data.n_items, settings, names, print, resume=not fresh
        )
        return {"metrics": {name: metrics_of(result)[name] for name, result in found.items()}}

    def odmt(settings: Config) -> dict[str, Any]:
        found, figures = trained(settings, resume=not fresh)
        seconds = sum(epoch.seconds for epoch in found.training.history)
        return {**figures, "training_seconds": round(seconds, 1)}

    make("counted", None, lambda: baselines(config, *COUNTED))
    for seed in range(1, seeds + 1):
        own = config.updated({"training.seed": seed, "training.output": work / f"seed-{seed}"})
        longer = own.updated({**study.long, "training.output": work / f"seed-{seed}-long"})
        make("odmt", seed, lambda own=own: odmt(own))
        make("sasrec", seed, lambda own=own: baselines(own, "sasrec"))
        make("sasrec-long", seed, lambda longer=longer: baselines(longer, "sasrec"))


def main() -> None:
    """Runs what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=results.ROOT / "runs" / NAME)
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    options = parser.parse_args()
    run_study(Study.movielens(), options.seeds, options.work, fresh=options.fresh)


if __name__ == "__main__":
    main()
