"""What somebody adds is one file and one line; the command line trains it like our own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from extension.item_encoder import hashed
from extension.loss import pairwise
from extension.modality import write_audio
from extension.reader import ARROWS
from extension.user_encoder import RunningMean

from odmt_fast.cli import main
from odmt_fast.data import Interactions, readers
from odmt_fast.models import zoo

USERS, ITEMS = 24, 15


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared by the reader of this folder, with text and audio features."""
    place = tmp_path_factory.mktemp("extension")
    lines = [
        f"u{user}>" + ",".join(f"i{(user + step) % ITEMS}" for step in range(6 + user % 3))
        for user in range(USERS)
    ]
    (place / "arrows.txt").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(readers.READERS, "arrows", ARROWS)
        assert main(["prepare", str(place), str(place / "dataset")]) == 0  # it is detected
    assert main(["extract", str(place / "dataset"), "--modality", "text"]) == 0
    write_audio(
        place / "dataset" / "features" / "audio",
        Interactions.load(place / "dataset").items.ids,
    )
    return place / "dataset"


def train(dataset: Path, run: Path, *settings: str) -> list[str]:
    """Two epochs by the command line; the columns of the log."""
    given = ["model.width=8", "model.max_seq_len=5", "training.batch_size=8", *settings]
    words = ["train", "--data", str(dataset), "-o", str(run), "--epochs", "2", "--json"]
    assert main([*words, *(word for setting in given for word in ("--set", setting))]) == 0
    assert main(["evaluate", str(run), "--json"]) == 0
    return (run / "logs" / "steps.csv").read_text().splitlines()[0].split(",")


def test_a_user_encoder(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(zoo.BACKBONES, "mean", RunningMean)
    assert "text/kd" in train(dataset, tmp_path, "model.backbone=mean")


def test_an_item_encoder(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(zoo.MODELS, "hashed", hashed)
    train(dataset, tmp_path, "model.name=hashed")


def test_a_loss_and_the_terms_it_names(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(zoo.MODELS, "bpr", pairwise)
    columns = train(dataset, tmp_path, "model.name=bpr")
    assert columns == ["step", "epoch", "loss", "margin", "gradient_norm", "seconds"]


def test_a_modality(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "audio/kd" in train(dataset, tmp_path)
    metrics = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["metrics"]
    assert [*metrics][:4] == ["id", "text", "audio", "ensemble"]
