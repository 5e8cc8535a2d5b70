"""Items that training knows nothing of, ranked with the rest and alone: who finds them?

``python -m bench.cold demo --seeds 2`` makes the generated shop and, for every seed, holds a tenth
of its items out (``odmt-fast prepare --cold-items 0.1``), trains, and ranks the test targets, cold
ones apart from the rest; ``movielens`` does so with the data, the features and the row ``odmt`` of
`bench.comparison movielens`. A finished run is written to ``bench/results/cold_<data>.json`` at
once; begun anew, the study goes on with the missing ones; started twice, two processes share it.
``make report`` writes the tables of docs/results.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import results
from bench.comparison import TABLES
from bench.comparison_table import settings_line
from bench.paired import Estimate
from bench.table import table
from bench.trainings import present, settings_of, trained
from odmt_fast.cli.demo import SETTINGS
from odmt_fast.config import Config
from odmt_fast.data import HoldOut, Interactions, read
from odmt_fast.data.demo import DemoOptions, write_demo
from odmt_fast.data.sequences import Sequences
from odmt_fast.evaluation import EvaluationResult, by_training, evaluate
from odmt_fast.features.extract import extract
from odmt_fast.features.registry import BUILT_IN
from odmt_fast.models import SequentialModel
from odmt_fast.storage import FolderInUseError, FolderLock
from odmt_fast.workflow.workspace import Workspace, default_store

SHARE = 0.1
ALONE = "cold items among themselves"
GROUPS = {ALONE: "cold, alone", "cold items": "cold", "items of the training": "the rest"}
"""Groups of targets -> what heads their columns."""
METRICS = ("hr@10", "ndcg@10")
NAMES = {"demo": "the demo shop", "movielens": "MovieLens with posters and overviews"}
RANKINGS = {
    "popularity": "popularity",
    "id": "id branch",
    "text": "text branch",
    "image": "image branch",
    "ensemble": "ensemble (mean)",
    "known": "ensemble of what is known",
}


def marks(data: str) -> tuple[str, str]:
    """What the table stands between in docs/results.md."""
    return f"<!-- cold {data} -->", f"<!-- /cold {data} -->"


@dataclass(frozen=True)
class ColdStudy:
    """What is trained on what.

    Attributes:
        name: of the data, a key of `NAMES`.
        source: the data, in the official layout.
        config: of all runs, with stores and without dataset; the seed is the run's.
    """

    name: str
    source: Path
    config: Config

    @classmethod
    def demo(cls, work: Path, options: DemoOptions | None = None) -> ColdStudy:
        """The generated shop with the built-in encoders, made in `work` where it is not there."""
        shop = write_demo(work / "shop", options or DemoOptions())
        items, stores = read(shop, "official").items, {}
        for encoder, modality in BUILT_IN.items():
            stores[modality] = default_store(work, modality)
            extract(items, modality, encoder, stores[modality])
        return cls("demo", shop, Config().updated({**SETTINGS, "features.stores": stores}))

    @classmethod
    def movielens(cls) -> ColdStudy:
        """The row ``odmt`` of the comparison, with the features made for that."""
        study = TABLES["movielens"]
        present(study.source)
        dataset, _ = study.prepared(study.work)
        config = study.grid(dataset).rows["odmt"]
        stores = {name: default_store(dataset, name) for name in config.features.modalities}
        return cls(
            "movielens",
            study.source,
            config.updated({"data.path": None, "features.stores": stores}),
        )

    def head(self) -> dict[str, Any]:
        """What all runs share, as JSON values."""
        return {"data": self.name, "share": SHARE, "config": settings_of(self.config)}


def run_study(study: ColdStudy, seeds: int, work: Path, *, fresh: bool = False) -> None:
    """Runs what is missing for seeds 1 to `seeds`; datasets and runs lie in `work`.

    A seed chooses the cold items too.
    """
    record = results.Record(f"cold_{study.name}", study.head(), ("seed",), fresh=fresh)
    for seed in range(1, seeds + 1):
        if record.has(seed=seed):
            continue
        print(f"{study.name}, seed {seed}", flush=True)
        own = work / f"seed-{seed}"
        try:
            with FolderLock(own, "bench.cold"):
                held = HoldOut(cold_items=SHARE, seed=seed)
                data = read(study.source, "official", holdout=held, decode_images=False)
                row = {"seed": seed, **_run(study, data, seed, own, fresh=fresh)}
        except FolderInUseError as busy:
            print(f"left to the other process: {busy}", flush=True)
            continue
        record.add(row)


def _run(
    study: ColdStudy, data: Interactions, seed: int, work: Path, *, fresh: bool
) -> dict[str, Any]:
    settings = {
        "data.path": data.save(work / "dataset"),
        "training.output": work / "run",
        "training.seed": seed,
    }
    found, _ = trained(study.config.updated(settings), resume=not fresh)
    assert found.best is not None and found.test is not None  # or it would have raised
    workspace = found.workspace
    known = workspace.with_settings({"evaluation.ensemble": "known"}).evaluate(found.best)
    shares = workspace.split.popularity
    knowing = by_training(known, shares)
    groups = {
        name: {"targets": group.n_users, "metrics": _metrics(group, knowing[name])}
        for name, group in by_training(found.test, shares).items()
    }
    return {
        "items": data.n_items,
        "cold_items": data.report.items_cold,
        "best_epoch": found.training.best_epoch,
        "training_seconds": round(sum(epoch.seconds for epoch in found.training.history), 1),
        "groups": {ALONE: _ranked_alone(workspace, found.best), **groups},
    }


def _ranked_alone(workspace: Workspace, model: SequentialModel) -> dict[str, Any]:
    """Cold targets ranked among the cold items only: all others are left out like a history."""
    split, settings = workspace.ranked, workspace.config.evaluation
    cold = split.popularity == 0.0
    test, history = split.part("test")
    chosen = cold[[test[row][-1] for row in range(len(test))]]
    warm = np.flatnonzero(~cold)[1:]  # without the padding
    left_out = history.select(chosen)
    apart = Sequences.from_lists(
        [np.union1d(warm, left_out[row]).tolist() for row in range(len(left_out))]
    )

    def ranked(ensemble: str) -> EvaluationResult:
        own = settings.model_copy(update={"ensemble": ensemble})
        return evaluate(model, test.select(chosen), apart, own, popularity=split.popularity)

    mean = ranked("mean")
    return {"targets": mean.n_users, "metrics": _metrics(mean, ranked("known"))}


def _metrics(mean: EvaluationResult, known: EvaluationResult) -> dict[str, Mapping[str, float]]:
    return {**mean.metrics, "known": known.metrics["ensemble"]}


def section(found: Mapping[str, Any]) -> str:
    """The table of a study, from its file of results."""
    rows = found["rows"]
    head = ["ranking by", *(f"{words}: {m.upper()}" for words in GROUPS.values() for m in METRICS)]
    body = [
        [label]
        + [
            _cell([row["groups"][group]["metrics"][ranking][metric] for row in rows])
            for group in GROUPS
            for metric in METRICS
        ]
        for ranking, label in RANKINGS.items()
    ]
    cold = [row["groups"][ALONE]["targets"] for row in rows]
    machine = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    return "\n".join(
        [
            f"{rows[0]['items']:,} items, {rows[0]['cold_items']:,} of them cold, others with each "
            f"seed; {len(rows)} seeds, mean ± standard error; {min(cold):,} to {max(cold):,} test "
            "targets are cold. *Alone*: ranked among the cold items only; the other columns: among "
            f"all. {settings_line(found['config'])}.",
            "",
            table(head, body),
            "",
            f"<sub>{machine}</sub>",
        ]
    )


def _cell(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    estimate = Estimate.of(values)
    return f"{estimate.mean:.4f} ± {estimate.error:.4f}"


def main() -> None:
    """Runs what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", choices=NAMES)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--work", type=Path, help="default: runs/cold-DATA")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    options = parser.parse_args()
    work = options.work or results.ROOT / "runs" / f"cold-{options.data}"
    study = ColdStudy.demo(work) if options.data == "demo" else ColdStudy.movielens()
    run_study(study, options.seeds, work, fresh=options.fresh)


if __name__ == "__main__":
    main()
