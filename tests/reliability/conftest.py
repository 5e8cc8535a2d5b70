"""A small shop with features and a finished run, made by the commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from odmt_fast.cli import main
from odmt_fast.data.demo import DemoOptions, write_demo

TRAINING = {
    "model.width": 16,
    "model.max_seq_len": 6,
    "training.batch_size": 32,
    "training.epochs": 2,
    "training.device": "cpu",
    "training.precision": "fp32",
    "training.tensorboard": False,
}


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one line of an error, without its line breaks on a narrow screen."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.status == 1 and len(errors) == 1, self
        assert "(a bug" not in errors[0]
        return errors[0]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs ``odmt-fast`` with the given words."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated shop with features, small."""
    folder = tmp_path_factory.mktemp("reliability")
    shop = write_demo(folder / "shop", DemoOptions(users=120, items=80, side=24))
    dataset = folder / "dataset"
    for words in (
        ("prepare", shop, dataset),
        ("extract", dataset, "--modality", "text", "--width", 64),
        ("extract", dataset, "--modality", "image", "--width", 64),
    ):
        assert main([str(word) for word in words]) == 0
    return dataset


@dataclass(frozen=True)
class Place:
    """A dataset with stores and a finished run on it, free to be spoiled."""

    folder: Path

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def train(self, *words: object) -> list[object]:
        """The words of the command that made the run, and more."""
        settings = [w for key, value in TRAINING.items() for w in ("--set", f"{key}={value}")]
        return ["train", "--data", self.dataset, "--output", self.run, *settings, *words]


@pytest.fixture(scope="session")
def finished(dataset: Path) -> Place:
    """Not to be spoiled; see `place`."""
    place = Place(dataset.parent)
    assert main([str(word) for word in place.train()]) == 0
    return place


@pytest.fixture
def place(finished: Place, tmp_path: Path) -> Place:
    """A copy of dataset and run."""
    shutil.copytree(finished.folder, tmp_path / "place")
    return Place(tmp_path / "place")
