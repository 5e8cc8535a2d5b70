"""Bounds are kept before memory is taken, named by their flag, and can be raised."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from odmt_fast.data import DataError, Filters, read
from odmt_fast.data.bounds import BOUNDS

Command = Callable[..., Any]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Four people, four items, each with a picture of 40 x 30."""
    folder = tmp_path / "shop"
    (folder / "images").mkdir(parents=True)
    rows = [f"u{user},i{item},{item},5" for user in range(4) for item in range(4)]
    lines = ["user,item,timestamp,stars", *rows]
    (folder / "interactions.csv").write_text("\n".join(lines) + "\n")
    items = [f"i{item},Tea" for item in range(4)]
    (folder / "items.csv").write_text("\n".join(["item,text", *items]) + "\n")
    for item in range(4):
        Image.new("RGB", (40, 30), "red").save(folder / "images" / f"i{item}.png")
    return folder


@pytest.mark.parametrize(
    ("flag", "bound", "file"),
    [
        ("--max-pixels", 1199, "i0.png"),
        ("--max-line-bytes", 15, "interactions.csv, line 1"),
        ("--max-columns", 3, "interactions.csv"),
    ],
)
def test_a_bound_is_named_by_its_flag(
    shop: Path, tmp_path: Path, command: Command, flag: str, bound: int, file: str
) -> None:
    words = ("prepare", shop, tmp_path / "dataset", "--min-length", 3)
    refusal = command(*words, flag, bound).refusal
    assert file in refusal and f"raise {flag}" in refusal
    assert command(*words, flag, 2000).status == 0
    assert f"{flag} 0 must be at least 1" in command(*words, flag, 0).refusal


def test_extract_takes_the_bound_of_pictures_too(
    shop: Path, tmp_path: Path, command: Command
) -> None:
    dataset = tmp_path / "dataset"
    assert command("prepare", shop, dataset, "--min-length", 3).status == 0
    words = ("extract", dataset, "--modality", "image")
    refusal = command(*words, "--max-pixels", 1199).refusal
    assert "image of item 'i0'" in refusal and "raise --max-pixels" in refusal
    assert command(*words, "--max-pixels", 1200).status == 0


def test_a_raised_line_bound_lets_long_lines_through_the_fast_parsers(shop: Path) -> None:
    long = "x" * 5_000_000
    (shop / "items.csv").write_text(f"item,text\ni0,Tea\ni1,{long}\ni2,Tea\ni3,Tea\n")
    small = BOUNDS.updated(line_bytes=4_000_000)
    kept = {"filters": Filters(min_seq_len=3), "decode_images": False}
    assert read(shop, "table", **kept, limits=BOUNDS).n_items == 4
    (shop / "items.csv").write_text(f'item,text\ni0,"Tea"\ni1,{long}\ni2,Tea\ni3,Tea\n')
    with pytest.raises(DataError, match=r"items\.csv, line 3: .* raise --max-line-bytes"):
        read(shop, "table", **kept, limits=small)


# Reads each of argv as a table or reviews; prints [message, seconds] of each and the peak in MB.
_PROBE = """
import json, sys, time
from odmt_fast.data import DataError, Filters, read
outcomes = []
for path in sys.argv[1:]:
    began = time.perf_counter()
    try:
        read(path, filters=Filters(min_seq_len=3), decode_images=False)
        message = "read"
    except DataError as error:
        message = str(error)
    outcomes.append([message, time.perf_counter() - began])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([outcomes, int(status["VmHWM"].split()[0]) / 1024]))
"""
_TIMES = ("1e400", "-1e400", "1e99999999999", "1e-99999999999", "9" * 900, "0x" + "f" * 900)


def _table(folder: Path, time: str) -> None:
    rows = [f"u0,i{n},{time}" for n in range(3)]
    (folder / "interactions.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    (folder / "items.csv").write_text("item,text\n" + "".join(f"i{n},Tea\n" for n in range(3)))


def _amazon(folder: Path, time: str) -> None:
    row = f'{{"reviewerID": "u", "asin": "i", "unixReviewTime": {time}}}\n'
    (folder / "Things_5.json").write_text(row * 3)
    (folder / "meta_Things.json").write_text('{"asin": "i", "title": "Tea"}\n')


def _literals(folder: Path, number: str) -> None:
    _amazon(folder, "16")
    (folder / "meta_Things.json").write_text(f"{{'asin': 'i', 'title': {number}}}\n")


def _rows(folder: Path, rows: str) -> None:
    _table(folder, "1")
    n = int(rows)
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int8)), pa.array(["x"]))
    table = pa.table({"user": names, "item": names, "timestamp": pa.array(np.zeros(n, np.int8))})
    pq.write_table(table, folder / "interactions.parquet", compression="zstd")
    (folder / "interactions.csv").unlink()


def _columns(folder: Path, columns: str) -> None:
    _table(folder, "1")
    with gzip.open(folder / "interactions.csv.gz", "wb") as file:
        file.write(b"user,item,timestamp" + b",x" * int(columns) + b"\n")
    (folder / "interactions.csv").unlink()


_SMALL: dict[str, tuple[Callable[[Path, str], None], str]] = {
    **{f"time {time[:16]}": (_table, time) for time in _TIMES},
    **{f"review {time[:16]}": (_amazon, time) for time in (*_TIMES, "9" * 9000)},
    "literal of 20,000 digits": (_literals, "0x" + "f" * 20_000),
    "power": (_literals, "9**9**9"),
    "rows": (_rows, "5000000"),
    "columns": (_columns, "3000000"),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_small_files_cost_little_whatever_they_claim(tmp_path: Path) -> None:
    folders = []
    for number, (write, value) in enumerate(_SMALL.values()):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        write(folders[-1], value)
    command = [sys.executable, "-c", _PROBE, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes, peak = json.loads(done.stdout)
    for name, folder, (message, seconds) in zip(_SMALL, folders, outcomes, strict=True):
        assert message == "read" or str(folder) in message, (name, message)
        assert len(message) < 1000 and "\n" not in message, name
        assert seconds < 2, (name, seconds)
    assert peak < 500
