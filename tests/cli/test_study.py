"""A study trains its grid, keeps what is finished, goes on with the rest, and adds it up."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from odmt_fast.studies.compare import ranks_of
from odmt_fast.training.checkpoint import BEST

Command = Callable[..., Any]
GRID = """
base:
  features: {modalities: []}
  model: {width: 8, imt_layers: 1, user_layers: 1}
  training: {epochs: 1, device: cpu, precision: fp32, tensorboard: false}
rows:
  id: {model.name: id}
  gru: {model.name: id, model.backbone: gru4rec}
seeds: [1, 2, 3]
against: id
"""


@pytest.fixture
def words(shop: Path, tmp_path: Path, command: Command) -> tuple[object, ...]:
    """The command line of a study in `tmp_path`, its dataset prepared."""
    assert command("prepare", shop, tmp_path / "dataset").status == 0
    (tmp_path / "grid.yaml").write_text(GRID)
    where = ("--data", tmp_path / "dataset", "-o", tmp_path / "study")
    return ("study", tmp_path / "grid.yaml", *where)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As runs beside each other have; the library that multiplies is chosen by their number."""
    allowed = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(allowed)


def weights(tmp_path: Path) -> dict[str, bytes]:
    """Run -> its best epoch."""
    study = tmp_path / "study"
    runs = sorted(study.glob("*/seed-*"))
    return {str(run.relative_to(study)): (run / "checkpoints" / BEST).read_bytes() for run in runs}


def test_a_study_adds_its_runs_up(
    words: tuple[object, ...], tmp_path: Path, command: Command
) -> None:
    done = command(*words, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    for name in ("id", "gru"):
        runs = [ranks_of(tmp_path / "study" / name / f"seed-{seed}") for seed in (1, 2, 3)]
        values = [run.gains("ndcg@10").mean() for run in runs]
        row = found["rows"][name]["metrics"]["ndcg@10"]
        assert row["values"] == pytest.approx(values)
        assert row["mean"] == pytest.approx(sum(values) / 3)
        assert row["standard_error"] == pytest.approx(np.std(values, ddof=1) / 3**0.5)
    assert {row["name"] for row in found["comparisons"]} == {"gru"}
    for row in found["comparisons"]:
        assert row["ours"] - row["theirs"] == pytest.approx(row["difference"], abs=1e-9)
        assert row["low"] <= row["difference"] <= row["high"]
    assert "| gru |" in (tmp_path / "study" / "study.md").read_text("utf-8")
    with Image.open(tmp_path / "study" / "study.png") as image:
        assert image.format == "PNG"

    before = weights(tmp_path)
    shutil.rmtree(tmp_path / "study" / "gru" / "seed-2")
    again = command(*words)
    assert again.status == 0 and "± " in again.out and "Against id" in again.out
    assert again.err.count("nothing left to train") == 5 and again.err.count("starting on") == 1
    assert weights(tmp_path) == before
    refused = command(*words, "--set", "model.width=16")
    assert refused.status == 1 and "model.width was 8 and is 16" in refused.err
    assert "--jobs 0" in command(*words, "--jobs", 0).err


@pytest.mark.usefixtures("one_thread")
@pytest.mark.skipif(not hasattr(os, "setpgrp"), reason="runs beside each other need POSIX here")
def test_runs_beside_each_other_are_the_same_and_a_failed_one_is_named(
    words: tuple[object, ...], tmp_path: Path, command: Command
) -> None:
    grid = tmp_path / "grid.yaml"
    grid.write_text(GRID.replace("[1, 2, 3]", "[1]"))
    assert command(*words).status == 0
    alone = weights(tmp_path)
    shutil.rmtree(tmp_path / "study")
    (tmp_path / "study" / "gru" / "seed-1").mkdir(parents=True)
    (tmp_path / "study" / "gru" / "seed-1" / "checkpoints").write_text("in the way")
    failed = command(*words, "--jobs", 2)
    assert failed.status == 1
    assert "1 of 2 runs failed: gru/seed-1;" in failed.err and "train.log says why" in failed.err
    assert "error: " in (tmp_path / "study" / "gru" / "seed-1" / "train.log").read_text()
    (tmp_path / "study" / "gru" / "seed-1" / "checkpoints").unlink()
    assert command(*words).status == 0
    assert weights(tmp_path) == alone
