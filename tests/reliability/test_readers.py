"""Hostile and broken files: refused at once, in little memory, by name."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from odmt_fast.data import DataError, read
from odmt_fast.data.readers.table import TableOptions

# Reads argv[1]; prints [error, peak MB].
_PROBE = """
import json, sys
from odmt_fast.data import DataError, read
try:
    read(sys.argv[1], sys.argv[2], decode_images=False)
    message = "read"
except DataError as error:
    message = str(error)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([message, int(status["VmHWM"].split()[0]) / 1024]))
"""


def write_amazon(folder: Path, reviews: bytes) -> Path:
    (folder / "Things_5.json").write_bytes(reviews)
    (folder / "meta_Things.json").write_text('{"asin": "i1", "title": "Tea"}\n')
    return folder


REVIEW = b'{"reviewerID": "u1", "asin": "i1", "unixReviewTime": 16}\n'


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_line_that_unpacks_to_a_gigabyte_is_refused_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "text.tsv").write_text("i1\tTea\n")
    with gzip.open(tmp_path / "behaviors.tsv.gz", "wb", compresslevel=1) as file:
        for _ in range(1024):
            file.write(b"x" * 2**20)
    (tmp_path / "Things_5.json.gz").write_bytes((tmp_path / "behaviors.tsv.gz").read_bytes())
    (tmp_path / "meta_Things.json").write_text('{"asin": "i1", "title": "Tea"}\n')
    command = [sys.executable, "-c", _PROBE, str(tmp_path), "amazon"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    message, peak = json.loads(done.stdout)
    assert "Things_5.json.gz" in message and peak < 500, (message, peak)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
@pytest.mark.parametrize(
    ("kind", "name"),
    [("official", "behaviors.tsv"), ("table", "interactions.csv"), ("amazon", "Things_5.json")],
)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "text.tsv").write_text("i1\tTea\n")
    (tmp_path / "items.csv").write_text("item,text\ni1,Tea\n")
    (tmp_path / "meta_Things.json").write_text('{"asin": "i1", "title": "Tea"}\n')
    os.mkfifo(tmp_path / name)
    # The table reader looks for a file of that name and finds none.
    with pytest.raises(DataError, match=name.split(".")[0]):
        read(tmp_path, kind)


@pytest.mark.parametrize(
    ("bad", "line"),
    [
        (b'{"reviewerID": "\\ud800", "asin": "i1", "unixReviewTime": 16}\n', 3),
        (b'{"reviewerID": "u\xff", "asin": "i1", "unixReviewTime": 16}\n', 3),
        (b'{"reviewerID": "u1", "asin": "i1", "unixReviewTime": ' + b"[" * 2000 + b"\n", 3),
        (b'{"reviewerID": "u1", "asin": "i1", "unixReviewTime": 99999999999999999999}\n', 3),
    ],
    ids=["lone surrogate", "not UTF-8", "nested", "beyond 64 bits"],
)
def test_a_bad_review_is_named_by_its_line(tmp_path: Path, bad: bytes, line: int) -> None:
    write_amazon(tmp_path, REVIEW * 2 + bad)
    with pytest.raises(DataError, match=rf"Things_5\.json, line {line}"):
        read(tmp_path, "amazon")


@pytest.mark.parametrize("cut", [20, 60])
def test_a_truncated_gzip_is_named(tmp_path: Path, cut: int) -> None:
    write_amazon(tmp_path, b"")
    (tmp_path / "Things_5.json").unlink()
    packed = gzip.compress(REVIEW * 200)
    (tmp_path / "Things_5.json.gz").write_bytes(packed[: min(cut, len(packed) - 4)])
    with pytest.raises(DataError, match=r"Things_5\.json\.gz"):
        read(tmp_path, "amazon")


@pytest.mark.parametrize("header", [b"us\xffer,item,timestamp", b"\xfeuser,item,timestamp"])
def test_a_header_that_is_not_utf8_is_named(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "interactions.csv").write_bytes(header + b"\nu1,i1,1\n")
    (tmp_path / "items.csv").write_text("item,text\ni1,Tea\n")
    with pytest.raises(DataError, match=r"interactions\.csv, line 1: not UTF-8"):
        read(tmp_path, "table")


def test_a_field_longer_than_the_csv_module_takes_does_not_hide_the_fault(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\nu1,i1\n")
    (tmp_path / "items.csv").write_text("item,text\ni1," + "x" * 200_000 + "\ni2,a,b\n")
    with pytest.raises(DataError, match=r"items\.csv"):
        read(tmp_path, "table")


@pytest.mark.parametrize("path", ["/etc/hostname", "../secret.jpg", "a/../../secret.jpg"])
def test_a_picture_column_does_not_lead_out_of_its_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"")
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "interactions.csv").write_text("user,item,timestamp\nu1,i1,1\n")
    (folder / "items.csv").write_text(f"item,text,image\ni1,Tea,{path}\n")
    with pytest.raises(DataError, match="lies outside of this folder"):
        read(folder, "table", options=TableOptions(image="image"))


@pytest.mark.parametrize("name", ["interactions.csv", "items.csv"])
def test_a_quotation_mark_swallows_no_lines(tmp_path: Path, name: str) -> None:
    rows = [f"u{user},i{item},{item}" for user in range(4) for item in range(4)]
    items = [f"i{item},Tea" for item in range(4)]
    if name == "interactions.csv":
        rows[6] = 'u1,i2,"2'
    else:
        items[2] = 'i2,"Tea'
    (tmp_path / "interactions.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    (tmp_path / "items.csv").write_text("\n".join(["item,text", *items]) + "\n")
    line = 8 if name == "interactions.csv" else 4
    with pytest.raises(DataError, match=rf"{name}, line {line}: a quoted field begins here"):
        read(tmp_path, "table")


@pytest.mark.parametrize("content", [b"user,item,timestamp", gzip.compress(b"u" * 999)[:-6]])
def test_a_gzip_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "interactions.csv.gz").write_bytes(content)
    (tmp_path / "items.csv").write_text("item,text\ni1,Tea\n")
    with pytest.raises(DataError, match=r"interactions\.csv\.gz, line 1: the gzip is damaged"):
        read(tmp_path, "table")


@pytest.mark.parametrize(
    ("suffix", "content", "words"),
    [
        (".csv", gzip.compress(b"user,item,timestamp\n"), "but gzip: add .gz to its name"),
        (".csv.gz", gzip.compress(gzip.compress(b"user")), "but gzip in gzip: unpack it once"),
        (".csv", "user,item,timestamp\n".encode("utf-16"), "but UTF-16, as Excel writes it"),
    ],
    ids=["gzip", "gzip twice", "UTF-16"],
)
def test_a_file_in_disguise_is_called_what_it_is(
    tmp_path: Path, suffix: str, content: bytes, words: str
) -> None:
    (tmp_path / f"interactions{suffix}").write_bytes(content)
    (tmp_path / "items.csv").write_text("item,text\ni1,Tea\n")
    with pytest.raises(DataError, match=rf"interactions{suffix}, line 1: not UTF-8 {words}"):
        read(tmp_path, "table")
    (tmp_path / "meta_Things.json").write_text('{"asin": "i1", "title": "Tea"}\n')
    name = f"Things_5{suffix.replace('csv', 'json')}"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}, line 1: not UTF-8 {words}"):
        read(tmp_path, "amazon")
