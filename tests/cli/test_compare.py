"""Ranks are kept by train and evaluate, compared by compare, and refused where they do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from odmt_fast.data import Interactions
from odmt_fast.studies.compare import ranks_of
from odmt_fast.training.checkpoint import BEST

Command = Callable[..., Any]
TINY = ("--set", "model.width=8", "--set", "training.tensorboard=false", "--device", "cpu")


@pytest.fixture
def trained(shop: Path, tmp_path: Path, command: Command) -> Path:
    """A folder with `dataset`, and `run` trained on its IDs."""
    assert command("prepare", shop, tmp_path / "dataset").status == 0
    words = ("--data", tmp_path / "dataset", "--epochs", 1, "--set", "features.modalities=[]")
    done = command("train", *words, *TINY, "-o", tmp_path / "run", "--json")
    assert done.status == 0, done.err
    (tmp_path / "train.json").write_text(done.out)
    return tmp_path


def test_the_ranks_are_those_of_the_metrics(trained: Path, command: Command) -> None:
    rows = pq.read_table(trained / "run" / "ranks-test.parquet").to_pylist()
    data = Interactions.load(trained / "dataset")
    last = {
        user: data.items.ids[data.sequences[place][-1] - 1] for place, user in enumerate(data.users)
    }
    assert {row["user"]: row["target"] for row in rows} == last
    test = json.loads((trained / "train.json").read_text())["test"]
    ranks = ranks_of(trained / "run")
    assert ranks.names == ("id", "popularity") == tuple(test["metrics"])
    for name, metrics in test["metrics"].items():
        for metric, value in metrics.items():
            assert ranks.gains(metric, name).mean() == pytest.approx(value, abs=1e-12)
    (trained / "run" / "ranks-test.parquet").unlink()
    assert command("evaluate", trained / "run").status == 0
    again = ranks_of(trained / "run")
    assert np.array_equal(again.ranks, ranks.ranks) and again.made_of == ranks.made_of
    skipped = command("evaluate", trained / "run", "--repeat-targets", "skip", "--part", "valid")
    assert skipped.status == 0 and ranks_of(trained / "run", "valid").users


def test_equal_runs_do_not_differ_and_others_are_a_row_each(
    trained: Path, command: Command
) -> None:
    shutil.copytree(trained / "run", trained / "twin")
    done = command("compare", trained / "run", trained / "twin", "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert found["users"] == 30 and found["draws"] == 10_000
    assert [row["metric"] for row in found["comparisons"]] == [
        f"{kind}@{k}" for kind in ("hr", "ndcg") for k in (5, 10, 20)
    ]
    for row in found["comparisons"]:
        assert (row["difference"], row["low"], row["high"], row["p"]) == (0.0, 0.0, 0.0, 1.0)
    shown = command("compare", trained / "run", trained / "twin", "--k", "1")
    assert shown.status == 0 and "NDCG@1" in shown.out and "HR@5" not in shown.out


def test_runs_that_cannot_be_compared_are_refused_by_name(
    shop: Path, trained: Path, command: Command
) -> None:
    run, other = trained / "run", trained / "other"
    assert command("compare", run).status == 1
    assert "two or more different runs" in command("compare", run, run).err
    shutil.copytree(run, other)
    assert command("evaluate", other, "--repeat-targets", "miss").status == 0
    refused = command("compare", run, other)
    assert refused.status == 1
    assert f"{other} and {run} cannot be compared" in refused.err
    assert "differ in: evaluation.repeat_targets;" in refused.err
    (other / "ranks-test.parquet").unlink()
    assert f"odmt-fast evaluate {other}" in command("compare", run, other).err
    (other / "ranks-test.parquet").write_bytes(b"PAR1")
    assert "is damaged" in command("compare", run, other).err
    shutil.copy(run / "ranks-test.parquet", other)
    with (other / "checkpoints" / BEST).open("ab") as file:
        file.write(b"x")
    assert "was not made by" in command("compare", run, other).err

    less = trained / "less"
    shutil.copytree(shop, trained / "shop")
    rows = (trained / "shop" / "interactions.csv").read_text().splitlines()
    (trained / "shop" / "interactions.csv").write_text("\n".join(rows[:-10]) + "\n")
    assert command("prepare", trained / "shop", trained / "smaller").status == 0
    words = ("--data", trained / "smaller", "--epochs", 1, "--set", "features.modalities=[]")
    assert command("train", *words, *TINY, "-o", less).status == 0
    assert "differ in: whole sequences, ranked targets" in command("compare", run, less).err
