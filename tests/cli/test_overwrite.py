"""Nothing is replaced unless somebody says so, and then only by what is finished."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from odmt_fast.cli import overwrite

Command = Callable[..., Any]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".lock")
    }


@pytest.fixture
def dataset(command: Command, shop: Path, tmp_path: Path) -> Path:
    assert command("prepare", shop, tmp_path / "dataset").status == 0
    return tmp_path / "dataset"


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[str]]:
    """Puts somebody with one answer at the terminal; what they were asked."""

    def sit(reply: bool) -> list[str]:
        asked: list[str] = []
        monkeypatch.setattr(overwrite.sys.stdin, "isatty", lambda: True)
        monkeypatch.setattr(overwrite.sys.stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(typer, "confirm", lambda text, **_: asked.append(text) or reply)
        return asked

    return sit


def test_a_dataset_is_not_replaced_unasked(command: Command, shop: Path, dataset: Path) -> None:
    before = contents(dataset)
    refused = command("prepare", shop, dataset, "--min-length", 8)
    assert refused.status == 1
    assert f"{dataset} holds a dataset; pass --overwrite to replace it" in refused.err.replace(
        "\n", " "
    )
    assert "reading" not in refused.err  # at once, not after an hour of reading
    assert contents(dataset) == before
    assert command("prepare", shop, dataset, "--min-length", 8, "--overwrite").status == 0
    report = json.loads((dataset / "dataset.json").read_text())["report"]
    assert report["users_too_short"] > 0
    assert len(list(dataset.glob("*.parquet"))) == 2


def test_a_failed_overwrite_leaves_what_was_there(
    command: Command, shop: Path, dataset: Path
) -> None:
    before = contents(dataset)
    assert command("prepare", shop, dataset, "--min-length", 99, "--overwrite").status == 1
    assert contents(dataset) == before


@pytest.mark.parametrize("reply", [True, False])
def test_somebody_at_a_terminal_is_asked(
    command: Command,
    shop: Path,
    dataset: Path,
    answer: Callable[[bool], list[str]],
    reply: bool,
) -> None:
    asked = answer(reply)
    done = command("prepare", shop, dataset, "--json")
    assert asked == [f"{dataset} holds a dataset; replace it?"]
    assert done.status == (0 if reply else 1)


def test_features_are_replaced_alike(
    command: Command, dataset: Path, answer: Callable[[bool], list[str]]
) -> None:
    words = ("extract", dataset, "--modality", "text", "--width", 16)
    assert command(*words).status == 0
    assert command(*words).status == 0  # the same again is nothing to ask for
    before = contents(dataset / "features")
    refused = command(*words, "--max-tokens", 3)
    assert refused.status == 1 and "pass --overwrite to replace it" in refused.err
    asked = answer(False)
    assert command(*words, "--max-tokens", 3).status == 1
    assert contents(dataset / "features") == before
    assert "holds another store: encoder setting max_tokens is 30, not 3; replace it?" in asked[0]
    answer(True)
    assert command(*words, "--max-tokens", 3).status == 0
    assert contents(dataset / "features") != before
