"""Three files of a split, from `prepare` to `evaluate`: their parts are what is ranked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from odmt_fast.data import DataError, Filters, detect, read
from odmt_fast.data.readers.ready_made import ReadyMadeOptions

Command = Callable[..., Any]

USERS, ITEMS = 10, 8
HEAD = "user_id,parent_asin,rating,timestamp,history"
KEEP = Filters(min_seq_len=3)
SMALL = (
    *("--width", 8, "--max-seq-len", 4, "--epochs", 1, "--batch-size", 5, "--device", "cpu"),
    *("--set", "model.imt_layers=1", "--set", "model.user_layers=1"),
)


def write_split(folder: Path, suffix: str = ".csv", *, items: bool = False) -> Path:
    """Three training interactions of everybody, a validation one, two test ones of every second."""
    folder.mkdir()
    rows: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for user in range(USERS):
        for step in range(5 + user % 2):
            part = ("train", "train", "train", "valid", "test", "test")[step]
            rows[part].append(f"u{user},i{(user + step) % ITEMS},{step % 5 + 1},{1000 + step},")
    for part, lines in rows.items():
        text = "\n".join((HEAD, *lines)) + "\n"
        (folder / f"Things.{part}{suffix}").write_text(text)
    if items:
        titles = "".join(f"i{n},Thing {n}\n" for n in range(ITEMS))
        (folder / "items.csv").write_text(f"parent_asin,title\n{titles}")
    return folder


def test_training_and_evaluation_use_the_parts_of_the_source(
    command: Command, tmp_path: Path
) -> None:
    dataset, run = tmp_path / "d", tmp_path / "run"
    done = command("prepare", write_split(tmp_path / "s"), dataset, "--min-length", 3)
    assert "(split, no items)" in done.out
    assert json.loads((dataset / "dataset.json").read_text())["split"] == "ready-made"
    done = command("train", "--data", dataset, "--output", run, *SMALL, "--json")
    values = json.loads(done.out)
    assert values["test"]["users"] == 15, "every test interaction is a target"
    assert json.loads(command("evaluate", run, "--part", "valid", "--json").out)["users"] == 10
    assert "test: 15 targets, 8 items" in command("evaluate", run).out
    metrics = json.loads(command("evaluate", run, "--slices", "--json").out)["metrics"]
    assert metrics == values["test"]["metrics"]
    words = ("--data", dataset, "-o", tmp_path / "b", "--models", "markov,sasrec", *SMALL[-4:])
    done = command("baselines", *words, "--set", "training.epochs=1", "--json")
    assert json.loads(done.out)["markov"]["users"] == 15


def test_an_item_table_brings_texts(tmp_path: Path) -> None:
    data = read(write_split(tmp_path / "s", items=True), filters=KEEP)
    assert data.items.texts[3] == "Thing 3"
    assert data.report.held_out_of_time == 0


def test_low_ratings_are_left_out_of_every_part(tmp_path: Path) -> None:
    data = read(write_split(tmp_path / "s"), options=ReadyMadeOptions(min_rating=2), filters=KEEP)
    assert data.parts is not None
    assert data.parts[:4].tolist() == [0, 0, 1, 2]
    assert data.report.ratings_low == 15


def test_parts_that_overlap_in_time_are_kept_and_counted(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "s")
    file = folder / "Things.test.csv"
    file.write_text(f"{HEAD}\nu0,i7,5,1,\nu1,i7,5,2000,\n")
    data = read(folder, filters=KEEP)
    assert data.parts is not None
    assert data.parts[:5].tolist() == [0, 0, 0, 1, 2]
    assert data.report.held_out_of_time == 1


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "dev", "test")])
def test_parts_are_known_by_their_usual_names(names: tuple[str, ...], tmp_path: Path) -> None:
    folder = write_split(tmp_path / "s")
    for part, name in zip(("train", "valid", "test"), names, strict=True):
        (folder / f"Things.{part}.csv").rename(folder / f"{name}_things.csv")
    assert detect(folder) == "split"


def test_a_part_that_is_not_there(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "s")
    (folder / "Things.valid.csv").unlink()
    with pytest.raises(DataError, match=r"not one table .* of each of train, valid and test"):
        detect(folder)


def test_an_unknown_item_is_named_with_its_file_and_line(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "s", items=True)
    with (folder / "Things.valid.csv").open("a") as file:
        file.write("u0,nothing,5,2000,\n")
    with pytest.raises(DataError, match=r"Things.valid.csv, line 12: item 'nothing' is not in"):
        read(folder, filters=KEEP)
    data = read(folder, options=ReadyMadeOptions(unknown_items="drop"), filters=KEEP)
    assert data.report.interactions_unknown == 1


def test_times_in_another_unit_in_another_part_are_refused(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "s")
    for part, scale in (("train", 1_500_000), ("valid", 1_500_000), ("test", 1_500_000_000)):
        file = folder / f"Things.{part}.csv"
        rows = [line.split(",") for line in file.read_text().splitlines()[1:]]
        lines = [",".join((*row[:3], str(int(row[3]) * scale), "")) for row in rows]
        file.write_text("\n".join((HEAD, *lines)) + "\n")
    with pytest.raises(DataError, match=r"Things.test.csv, line 2: .* milliseconds where .* sec"):
        read(folder, filters=KEEP)
