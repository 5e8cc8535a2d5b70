"""Amazon Reviews of 2014 and 2023: other fields, and lines that are Python literals."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from odmt_fast.data import AmazonOptions, DataError, Filters, read
from odmt_fast.data.readers.records import LONGEST_LITERAL

CASES = Path(__file__).parent / "cases"
LOOSE = Filters(min_seq_len=3)


@pytest.fixture
def literals(tmp_path: Path) -> Path:
    """The folder of 2014, its metadata unpacked so that a test may break it."""
    source = CASES / "03-python-literal-lines" / "a-amazon-2014"
    shutil.copy(source / "reviews_Things_5.json.gz", tmp_path)
    text = gzip.decompress((source / "meta_Things.json.gz").read_bytes())
    (tmp_path / "meta_Things.json").write_bytes(text)
    return tmp_path


@pytest.mark.parametrize("packed", [False, True])
def test_2023_is_read_by_its_own_fields(tmp_path: Path, packed: bool) -> None:
    for path in (CASES / "02-amazon-2023" / "input").iterdir():
        raw = path.read_bytes()
        target = tmp_path / f"{path.name}{'.gz' if packed else ''}"
        target.write_bytes(gzip.compress(raw) if packed else raw)
    options = AmazonOptions(texts=("title", "features", "description"))
    data = read(tmp_path, options=options, filters=LOOSE)
    assert data.report.kind == "amazon 2023"
    assert (data.n_users, data.n_items, data.sequences.items.size) == (6, 6, 36)
    texts = dict(zip(data.items.ids, data.items.texts, strict=True))
    assert texts["B0TEST0000"] == "Mild soap no 0. a. b. Soap."
    assert texts["B0TEST0001"] == "Mild soap no 1. a. b"


def test_python_literals_of_2014_are_read() -> None:
    folder = CASES / "03-python-literal-lines" / "a-amazon-2014"
    options = AmazonOptions(texts=("title", "categories", "description"))
    data = read(folder, options=options, filters=LOOSE)
    assert data.report.kind == "amazon 2014/2018"
    assert (data.n_users, data.n_items, data.sequences.items.size) == (6, 6, 36)
    texts = dict(zip(data.items.ids, data.items.texts, strict=True))
    assert texts["B0TEST0000"] == 'Men\'s mug no 0. Home. Mugs. A mug "0"'


def test_python_2_literals_are_read() -> None:
    folder = CASES / "03-python-literal-lines" / "b-steam-u-prefix"
    data = read(folder, filters=LOOSE)
    assert sorted(filter(None, data.items.texts))[:2] == ["Game 0", "Game 1"]


def test_json_among_literals_is_read(literals: Path) -> None:
    with (literals / "meta_Things.json").open("a") as file:
        file.write('{"asin": "B0TEST0006", "title": null}\n')
    assert read(literals, filters=LOOSE).report.items_read == 7


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{'asin': __import__('os').getcwd()}", "not a Python literal"),
        ("{'asin': 'x', 'title': " + "[" * 2000 + "]" * 2000 + "}", "not a Python literal"),
        ("{'asin': 'x'", "not a Python literal"),
        ("{'asin'}", "not a Python dict"),
        ("{'title': 'x'}", "column 'asin' is empty"),
        ("{'asin': ['x']}", "field 'asin' is ['x'], expected string"),
        (f"{{'asin': '{'x' * LONGEST_LITERAL}'}}", "a Python literal of more than"),
    ],
    ids=["call", "nested", "cut", "set", "missing", "type", "long"],
)
def test_bad_literals_are_named(literals: Path, bad: str, words: str) -> None:
    path = literals / "meta_Things.json"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], bad, *lines[2:]]) + "\n")
    with pytest.raises(DataError) as caught:
        read(literals)
    assert (caught.value.file, caught.value.line) == (path, 3)
    assert words in caught.value.reason
