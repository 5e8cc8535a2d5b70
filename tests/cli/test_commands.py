"""The commands one after the other on a small shop: files in, recommendations out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from odmt_fast.studies import BASELINES, run_baselines

Command = Callable[..., Any]

SMALL = (
    *("--width", 16, "--max-seq-len", 6, "--epochs", 2, "--batch-size", 8, "--device", "cpu"),
    *("--set", "model.imt_layers=1", "--set", "model.user_layers=1"),
)


@pytest.fixture(scope="module")
def trained(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A prepared dataset with features and a run, made by the commands."""
    from odmt_fast.cli import main

    folder = tmp_path_factory.mktemp("work")
    dataset, run = folder / "dataset", folder / "run"
    for words in (
        ("prepare", shop, dataset),
        ("extract", dataset, "--modality", "text", "--width", 16),
        ("extract", dataset, "--modality", "image", "--width", 16),
        ("train", "--data", dataset, "--output", run, *SMALL),
    ):
        assert main([str(word) for word in words]) == 0
    return dataset, run


def test_prepare_reports_what_it_read(command: Command, shop: Path, tmp_path: Path) -> None:
    done = command("prepare", shop, tmp_path / "a", "--kind", "table", "--json")
    report = json.loads(done.out)["report"]
    assert (report["users"], report["items"]) == (30, 24)
    assert report["items_without_image"] == 1
    done = command("prepare", shop, tmp_path / "b", "--min-length", 8)
    assert "users dropped: shorter" in done.out
    assert done.status == 0


def test_training_leaves_a_run_that_can_be_read(
    command: Command, trained: tuple[Path, Path]
) -> None:
    dataset, run = trained
    # The run is finished: asked again it only ranks the test targets.
    done = command("train", "--data", dataset, "--output", run, *SMALL, "--json")
    values = json.loads(done.out)
    assert (values["status"], values["epochs"]) == ("finished", 2)
    assert set(values["test"]["metrics"]) == {"id", "text", "image", "ensemble", "popularity"}
    assert json.loads((run / "config.json").read_text())["model"]["width"] == 16
    # Another width is another run.
    done = command("train", "--data", dataset, "--output", run, *SMALL, "--width", 32)
    assert done.status == 1
    assert "model.width was 16 and is 32" in done.err


def test_evaluate_agrees_with_training_and_slices(
    command: Command, trained: tuple[Path, Path]
) -> None:
    dataset, run = trained
    words = ("train", "--data", dataset, "--output", run, *SMALL, "--json")
    after_training = json.loads(command(*words).out)["test"]["metrics"]
    values = json.loads(command("evaluate", run, "--slices", "--json").out)
    assert values["metrics"] == after_training
    slices = values["slices"]
    assert sum(part["users"] for name, part in slices.items() if "inputs" in name) == 30
    shown = command("evaluate", run, "--part", "valid", "--k", "3")
    assert "NDCG@3" in shown.out
    assert "ensemble" in shown.out
    official = json.loads(command("evaluate", run, "--compat", "official", "--json").out)
    assert official["repeat_targets"] == "miss"


def test_recommend_by_user_history_and_export(
    command: Command, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    _, run = trained
    words = ("--user", "u3", "--history", "i01,i02", "-k", 4, "--export", tmp_path, "--json")
    values = json.loads(command("recommend", run, *words).out)
    mine = [item["id"] for item in values["recommendations"]["u3"]]
    assert len(mine) == 4
    assert not {f"i{item:02d}" for item in range(3, 12)} & set(mine)
    assert values["recommendations"]["history"][0]["title"].startswith("thing number")
    assert load_file(tmp_path / "items.safetensors")["vectors"].shape == (24, 48)
    assert len(json.loads((tmp_path / "users.json").read_text())) == 30
    assert "title" in command("recommend", run, "--user", "u3").out


def test_plot_and_baselines(command: Command, trained: tuple[Path, Path]) -> None:
    dataset, run = trained
    figures = json.loads(command("plot", run, "--json").out)["figures"]
    assert all(Path(path).stat().st_size > 10_000 for path in figures)
    words = ("--data", dataset, "--set", "model.max_seq_len=6", "--models", "popularity,markov")
    values = json.loads(command("baselines", *words, "--json").out)
    assert values["markov"]["metrics"]["markov"]["hr@5"] == 1.0
    assert "popularity" in command("baselines", *words).out


def test_baselines_are_all_that_the_features_allow(
    command: Command, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def run(*given: Any, **options: Any) -> Any:
        asked.append((*given[3], *options["sources"]))
        return run_baselines(*given[:3], ["popularity"])

    monkeypatch.setattr("odmt_fast.studies.run_baselines", run)
    assert command("baselines", "--data", trained[0]).status == 0
    some = command("baselines", "--data", trained[0], "--set", "features.modalities=[text]")
    assert "left out, for want of features: sasrec-image" in some.err
    assert asked[0] == (*BASELINES, "text", "image")
    assert asked[1] == (*(name for name in BASELINES if name != "sasrec-image"), "text")


def test_doctor_says_what_runs(command: Command) -> None:
    values = json.loads(command("doctor", "--device", "cpu", "--json").out)
    assert values["works"], values["failure"]
    chosen = {entry["operator"]: entry["backend"] for entry in values["operators"]}
    assert {"packed_attention", "distilled_softmax", "rank_of_target"} <= set(chosen)
    assert "packed_attention" in command("doctor", "--device", "cpu").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train",), "no dataset is given"),
        (("evaluate", "/nowhere"), "no config.json"),
        (("prepare", "/nowhere", "/tmp/out"), "no such folder"),
        (("train", "--set", "model.widht=3"), "'model.widht' is not a setting"),
        (("extract", "/nowhere", "--modality", "sound"), "--modality sound does not exist"),
    ],
)
def test_errors_are_one_line(command: Command, words: tuple[str, ...], message: str) -> None:
    done = command(*words)
    assert done.status == 1
    line = done.err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert "Traceback" not in done.err
    assert message in json.loads(command(*words, "--json").out)["error"]


def test_users_and_items_that_do_not_exist(command: Command, trained: tuple[Path, Path]) -> None:
    _, run = trained
    assert "user 'nobody' is not among the 30" in command("recommend", run, "--user", "nobody").err
    assert "'x' is not in the catalogue" in command("recommend", run, "--history", "x").err
    assert "nothing is asked" in command("recommend", run).err


def test_help_usage_and_debug(command: Command) -> None:
    assert "prepare" in command("--help").out
    assert command("train", "--help").status == 0
    assert command("--version").out.startswith("odmt-fast ")
    assert command("trian").status == 2
    with pytest.raises(ValueError, match="no dataset"):
        command("train", "--debug")
