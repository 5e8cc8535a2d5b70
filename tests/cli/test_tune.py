"""A search tries, prunes, goes on where it was killed, and leaves a file that train takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from training.toy_run import Crash, Silent

from odmt_fast.cli.settings import load_config, load_search
from odmt_fast.config import Config
from odmt_fast.studies.tune import STORAGE, TuneResult, tune
from odmt_fast.training.progress import EpochRecord

Command = Callable[..., Any]
SEARCH = """
base:
  features: {modalities: []}
  model: {width: 8, user_layers: 1}
  training: {device: cpu, precision: fp32, tensorboard: false}
rows:
  sasrec: {model.name: id}
  gru: {model.name: id, model.backbone: gru4rec}
search:
  training.learning_rate: {low: 0.001, high: 0.1, log: true}
  model.width: [4, 8]
"""


@pytest.fixture(scope="session")
def dataset(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop, prepared."""
    from odmt_fast.cli import main

    folder = tmp_path_factory.mktemp("tuned") / "dataset"
    assert main(["prepare", str(shop), str(folder)]) == 0
    return folder


def test_the_best_of_a_search_is_a_file_for_train(
    dataset: Path, tmp_path: Path, command: Command
) -> None:
    (tmp_path / "search.yaml").write_text(SEARCH)
    words = ("tune", tmp_path / "search.yaml", "--data", dataset, "-o", tmp_path / "tuned")
    budget = ("--epochs", 2, "--pruner", "none")
    done = command(*words, *budget, "--trials", 2, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)["models"]
    assert list(found) == ["sasrec", "gru"]
    for name, model in found.items():
        assert [trial["state"] for trial in model["trials"]] == ["complete"] * 2
        best = max(model["trials"], key=lambda trial: trial["score"])
        assert model["best"] == best
        config = load_config(Path(model["config"]), None)
        for setting, value in best["settings"].items():
            section, _, key = setting.partition(".")
            assert getattr(getattr(config, section), key) == value
        assert config.training.epochs == 2 and config.data.path == dataset
        run = tmp_path / "tuned" / name / best["name"]
        assert json.loads((run / "config.json").read_text())["model"]["name"] == "id"
    trained = command("train", found["gru"]["config"], "--json")
    assert trained.status == 0, trained.err
    # The same settings and seed: the trial again, bit for bit.
    assert json.loads(trained.out)["best_score"] == found["gru"]["best"]["score"]

    more = command(*words, *budget, "--trials", 3)
    assert more.status == 0 and "trial 3/3" in more.err and "trial 2/3" not in more.err
    other = command(*words, "--epochs", 3, "--trials", 3)
    assert other.status == 1 and "searched with other settings, --epochs or space" in other.err
    assert "--pruner fast does not exist" in command(*words, "--pruner", "fast").err
    assert "--trials 0 must be" in command(*words, "--trials", 0).err


class Killed(Silent):
    """Dies after so many epochs, of all trials together."""

    left = 10**9

    def epoch(self, record: EpochRecord, best: bool) -> None:
        super().epoch(record, best)
        Killed.left -= 1
        if Killed.left == 0:
            raise Crash


def search(dataset: Path, folder: Path, pruner: str) -> dict[str, TuneResult]:
    """One small model."""
    base = Config().updated(yaml_base() | {"data.path": dataset, "model.name": "id"})
    space = yaml.safe_load(SEARCH)["search"]
    options: Mapping[str, Any] = {"reporter": lambda metric: Killed(), "tell": lambda line: None}
    return tune({"id": (base, {})}, space, folder, trials=6, epochs=4, pruner=pruner, **options)


def yaml_base() -> dict[str, Any]:
    sections = yaml.safe_load(SEARCH)["base"]
    return {
        f"{s}.{name}": value for s, values in sections.items() for name, value in values.items()
    }


def test_a_killed_search_ends_as_one_that_was_not(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = search(dataset, tmp_path / "whole", "median")["id"]
    assert "pruned" in {trial.state for trial in whole.trials}
    assert all(trial.epochs < 4 for trial in whole.trials if trial.state == "pruned")
    for epochs in (1, 6):
        monkeypatch.setattr(Killed, "left", epochs)
        with pytest.raises(Crash):
            search(dataset, tmp_path / "killed", "median")
    monkeypatch.setattr(Killed, "left", 10**9)
    assert search(dataset, tmp_path / "killed", "median")["id"] == whole
    assert (tmp_path / "killed" / STORAGE).is_file()


def test_successive_halving_ends_most_trials_after_an_epoch(dataset: Path, tmp_path: Path) -> None:
    trials = search(dataset, tmp_path, "asha")["id"].trials
    assert trials[0].state == "complete"  # nobody to compare it with
    assert {trial.epochs for trial in trials if trial.state == "pruned"} == {1}


def test_a_trial_that_diverges_is_counted_and_passed_over(dataset: Path, tmp_path: Path) -> None:
    base = Config().updated(yaml_base() | {"data.path": dataset, "model.name": "id"})
    base = base.updated({"training.precision": "fp32", "training.weight_decay": 0.0})
    space = {"training.learning_rate": [1e-3, 1e30]}
    lines: list[str] = []
    found = tune(
        {"id": (base, {})},
        space,
        tmp_path,
        trials=6,
        epochs=1,
        pruner="none",
        reporter=lambda metric: Silent(),
        tell=lines.append,
    )["id"]
    states = {trial.settings["training.learning_rate"]: trial.state for trial in found.trials}
    assert states == {1e-3: "complete", 1e30: "diverged"}
    assert found.best.settings == {"training.learning_rate": 1e-3}
    assert any(line.startswith("diverged: ") for line in lines)


def test_what_is_set_is_not_searched(tmp_path: Path) -> None:
    rows, space = load_search(None, "small", ["model.width=16"], {"training.device": "cpu"})
    ((name, (config, fixed)),) = rows.items()
    assert (name, config.model.width, config.training.batch_size) == ("odmt", 16, 64)
    assert fixed == {"model.width": 16} and "model.width" in space
    (tmp_path / "s.yaml").write_text("vary: {}")
    with pytest.raises(ValueError, match="must hold base, rows, search"):
        load_search(tmp_path / "s.yaml", None, (), {})
