"""Cold items and a split by time, from the source to evaluation, baselines and lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from odmt_fast.cli import main
from odmt_fast.data import Interactions

Command = Callable[..., Any]

SMALL = (
    *("--width", 16, "--max-seq-len", 6, "--epochs", 1, "--batch-size", 8, "--device", "cpu"),
    *("--set", "model.imt_layers=1", "--set", "model.user_layers=1"),
)


@pytest.fixture(scope="module")
def trained(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset split by time with cold items, and a run on IDs and texts."""
    folder = tmp_path_factory.mktemp("work")
    dataset, run = folder / "dataset", folder / "run"
    how = ("--split", "time", "--test-share", 0.15, "--cold-items", 0.25, "--keep-unbought")
    for words in (
        ("prepare", shop, dataset, *how),
        ("extract", dataset, "--modality", "text", "--width", 16),
        ("train", "--data", dataset, "-o", run, *SMALL, "--set", "features.modalities=[text]"),
    ):
        assert main([str(word) for word in words]) == 0
    return dataset, run


def test_the_dataset_says_how_it_was_split(trained: tuple[Path, Path]) -> None:
    report = Interactions.load(trained[0]).report
    assert report.items_cold == 6
    assert report.division.startswith("split by time: validation from 5, test from 6; equal times")
    assert report.division in report.lines()


def test_a_report_tells_cold_items_apart(command: Command, trained: tuple[Path, Path]) -> None:
    _, run = trained
    values = json.loads(command("evaluate", run, "--report", "--json").out)
    split = Interactions.load(trained[0]).split(6)
    cold = int((split.popularity[split.test.items[split.test.offsets[1:] - 1]] == 0).sum())
    assert values["slices"]["cold items"]["users"] == cold > 0
    assert values["slices"]["cold items"]["metrics"]["popularity"]["hr@5"] == 0.0
    assert sum(share["targets"] for share in values["credit"]["shares"]) == values["users"]
    kept = json.loads((run / "report-test.json").read_text())
    assert kept["exposure"] == values["exposure"]
    assert all(Path(path).is_file() for path in values["files"])
    shown = command("evaluate", run, "--report").out
    for words in ("cold items", "coverage", "Gini", "id alone", "targets"):
        assert words in shown


def test_the_first_targets_alone(command: Command, trained: tuple[Path, Path]) -> None:
    dataset, run = trained
    every = json.loads(command("evaluate", run, "--json").out)
    first = json.loads(command("evaluate", run, "--targets", "first", "--json").out)
    split = Interactions.load(dataset)
    assert every["users"] == len(split.split(6).test) > first["users"]
    assert first["users"] <= split.n_users
    words = ("--data", dataset, "--models", "popularity", "--set", "model.max_seq_len=6")
    counted = json.loads(
        command("baselines", *words, "--set", "evaluation.targets=first", "--json").out
    )
    assert counted["popularity"]["users"] == first["users"]
    assert counted["popularity"]["metrics"] == {"popularity": first["metrics"]["popularity"]}


def test_the_ensemble_of_what_is_known(
    command: Command, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    _, run = trained
    mean, known = (
        json.loads(command("evaluate", run, "--ensemble", kind, "--json").out)["metrics"]
        for kind in ("mean", "known")
    )
    assert mean["id"] == known["id"] and mean["ensemble"] != known["ensemble"]
    assert command("export", run, tmp_path / "bundle", "--ensemble", "known").status == 0
    asked = ("--history", "i01,i02", "--json")
    lists = command("recommend", run, "--ensemble", "known", *asked).out
    assert command("recommend", tmp_path / "bundle", *asked).out == lists
    assert command("recommend", run, *asked).out != lists
    refused = command("recommend", tmp_path / "bundle", "--ensemble", "known", *asked)
    assert "--ensemble is of a run" in refused.err
