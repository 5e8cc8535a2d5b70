"""Other libraries' SASRec beside ours: the same sequences; a library that is absent is left out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.peers.__main__ import SETTINGS, compare, first_users, section
from bench.peers.sequences import training_sequences


@pytest.fixture
def behaviors(tmp_path: Path) -> Path:
    lines = [f"u{u}\t" + " ".join(f"i{(u + 3 * t) % 11}" for t in range(6)) for u in range(9)]
    (tmp_path / "behaviors.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "behaviors.tsv"


def test_all_train_what_leaves_two_items_out(behaviors: Path) -> None:
    assert training_sequences(behaviors)["u1"] == ["i1", "i4", "i7", "i10"]


def test_an_epoch_is_cut_to_the_first_users(behaviors: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    cut = first_users(behaviors, 4, folder)
    assert cut.read_text() == "".join(behaviors.read_text().splitlines(keepends=True)[:4])


def test_ours_is_measured_and_absent_libraries_are_left_out(
    behaviors: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pythons = {"rectools": None, "recbole": sys.executable}
    rows = compare(behaviors, pythons, 1, 2, {**SETTINGS, "width": 8})
    told = capfd.readouterr().out
    assert "left out: no --rectools PYTHON is given" in told
    assert "No module named 'recbole'" in told
    assert [row["against"] for row in rows] == ["the whole catalogue", "the items of the batch"]
    assert all(row["users"] == 9 and len(row["seconds"]) == 2 for row in rows)
    text = section({"source": "toy", "threads": 1, "epochs": 2, "rows": rows})
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4 and len({len(line) for line in lines}) == 1
