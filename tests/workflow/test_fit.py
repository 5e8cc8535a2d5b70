"""`fit` leaves a run that every command reads, goes on with it, and takes no other data for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import csv

from odmt_fast import Config, Dataset, Recommender, fit
from odmt_fast.cli import main
from odmt_fast.cli.settings import of_run
from odmt_fast.evaluation import evaluate
from odmt_fast.training.checkpoint import BEST, peek
from odmt_fast.training.errors import ResumeError
from odmt_fast.workflow.workspace import Workspace, trained_model, weights_of

SMALL: dict[str, Any] = {"width": 16, "epochs": 1, "imt_layers": 1, "user_layers": 1}


def dataset(shop: Path, **arguments: Any) -> Dataset:
    interactions = csv.read_csv(shop / "interactions.csv")
    return Dataset.from_frames(interactions, csv.read_csv(shop / "items.csv"), **arguments)


def answer(words: list[object], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_run_bundle_and_commands_agree(
    after_readme: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = after_readme / "runs" / "mine"
    asked = ["--user", "u3", "--history", "i01,i02", "--similar", "i07", "-k", 4]
    from_run = answer(["recommend", run, *asked], capsys)
    assert {name: len(items) for name, items in from_run["recommendations"].items()} == {
        "u3": 4,
        "history": 4,
    }
    # In a place of its own, the run and its dataset out of reach.
    answer(["export", run, tmp_path / "b", "--users"], capsys)
    aside = run.rename(tmp_path / "aside")
    try:
        assert answer(["recommend", tmp_path / "b", *asked], capsys) == from_run
        loaded = Recommender.load(tmp_path / "b")
        # The same people in the same order; alone, a product of matrices may round otherwise.
        _, mine = loaded.recommend([loaded.history("u3"), ["i01", "i02"]], 4)
        assert [item.to_dict() for item in mine] == from_run["recommendations"]["history"]
    finally:
        aside.rename(run)
    assert answer(["evaluate", run], capsys)["part"] == "test"


def test_the_commands_refuse_what_does_not_fit(
    after_readme: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, run = after_readme / "bundle", after_readme / "runs" / "mine"
    for words, message in (
        (["recommend", bundle, "--user", "u3"], "no user is known here; export the run with"),
        (["recommend", bundle, "--item", "i01", "--data", run], "--data is of a run"),
        (["recommend", bundle, "--all"], "--all and --output FILE.parquet go together"),
        (["recommend", bundle, "--item", "i01", "--deny", tmp_path / "no"], "--deny"),
        (["recommend", tmp_path, "--item", "i01"], "is not the directory of a run"),
        (["recommend", bundle], "nothing is asked"),
        (["export", run, bundle], "holds a bundle; pass --overwrite"),
    ):
        assert main([*map(str, words)]) == 1
        told = capsys.readouterr().err
        assert message in told and told.count("\n") == 1


def test_fit_goes_on_and_refuses_other_data(shop: Path, tmp_path: Path) -> None:
    data = dataset(shop, images=shop / "images")
    first = fit(data, output=tmp_path / "run", **SMALL)
    assert first.parts.branches == ("id", "text", "image")
    # Asked again it only reads: the same bits.
    again = fit(data, Config().updated({"training.output": tmp_path / "run"}), **SMALL)
    history = [["i01", "i02"]]
    assert again.recommend(history) == first.recommend(history)
    with pytest.raises(ResumeError, match=r"model\.width was 16 and is 32"):
        fit(data, output=tmp_path / "run", **{**SMALL, "width": 32})
    pictures = shutil.copytree(shop / "images", tmp_path / "pictures")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(pictures / "i03.png")
    with pytest.raises(ValueError, match=r"holds another dataset; pass fresh=True"):
        fit(dataset(shop, images=pictures), output=tmp_path / "run", **SMALL)
    other = dataset(shop, texts=())
    with pytest.raises(ValueError, match=r"holds another dataset; pass fresh=True"):
        fit(other, output=tmp_path / "run", **SMALL)
    replaced = fit(other, output=tmp_path / "run", fresh=True, **SMALL)
    assert replaced.parts.branches == ("id",)


def test_what_fit_encodes(shop: Path, tmp_path: Path) -> None:
    data = dataset(shop, images=shop / "images")
    made = fit(data, modalities=["text"], output=tmp_path / "a", **SMALL)
    assert made.parts.branches == ("id", "text")
    with pytest.raises(ValueError, match="nowhere"):
        fit(data, encoders={"text": "./nowhere"}, output=tmp_path / "b", **SMALL)
    with pytest.raises(ValueError, match="'widht' is not a setting"):
        fit(data, widht=3)
    with pytest.raises(ValueError, match="data.path=x is set beside a dataset; leave it out"):
        fit(data, Config().updated({"data.path": "x"}))


def test_an_epoch_is_scored_by_the_drawn_targets(shop: Path, tmp_path: Path) -> None:
    fit(dataset(shop), output=tmp_path / "run", valid_targets=7, **SMALL)
    workspace = Workspace.open(of_run(tmp_path / "run", {}, None, None))
    model = trained_model(workspace, weights_of(tmp_path / "run", "best"))
    drawn = evaluate(model, *workspace.split.validated(7), workspace.config.evaluation)
    assert drawn.n_users == 7 < len(workspace.split.valid)
    best = peek(tmp_path / "run" / "checkpoints" / BEST)
    assert best["score"] == pytest.approx(drawn.flat()["ensemble/ndcg@10"], abs=1e-7)
    assert workspace.evaluate(model, "valid").n_users == len(workspace.split.valid)
