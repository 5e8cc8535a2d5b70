from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from odmt_fast.data import DataError, Filters, TableOptions, detect, read
from odmt_fast.data.readers.columns import InteractionColumns, NameColumn

LOOSE = Filters(min_seq_len=3)
USERS = ["7", "8", "7", "7", "8", "8"]
ITEMS = ["01", "01", "2", "3", "3", "2"]
EXPECTED = {"7": ["3", "01", "2"], "8": ["01", "3", "2"]}


def write(folder: Path, kind: str, interactions: dict[str, Any], items: dict[str, Any]) -> Path:
    for name, columns in (("interactions", interactions), ("items", items)):
        table = pa.table(columns)
        if kind == "parquet":
            pa.parquet.write_table(table, folder / f"{name}.parquet", row_group_size=2)
        elif kind == "csv.gz":
            with pa.CompressedOutputStream(folder / f"{name}.csv.gz", "gzip") as stream:
                pa.csv.write_csv(table, stream)
        else:
            options = pa.csv.WriteOptions(delimiter="\t" if kind == "tsv" else ",")
            pa.csv.write_csv(table, folder / f"{name}.{kind}", options)
    return folder


def items_of(data: Any) -> dict[str, list[str]]:
    return {
        user: [data.items.ids[i - 1] for i in items]
        for user, items in zip(data.users, data.sequences, strict=True)
    }


CATALOGUE = {"item": ["01", "2", "3"], "text": ["one", "", "three, with a comma"]}
DAYS = [datetime.date(2020, 1, day) for day in (2, 1, 3, 1, 1, 2)]
TIMES: dict[str, Any] = {
    "integers": [20, 10, 30, 10, 10, 20],
    "floats": [2.5, 1.5, 3.5, 1.5, 1.5, 2.5],
    "dates": DAYS,
    "timestamps": [datetime.datetime.combine(day, datetime.time(12)) for day in DAYS],
    "texts": [f"{day} 10:00:00" for day in DAYS],
    "zoned texts": [f"{day}T10:00:00Z" for day in DAYS],
}


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "csv.gz"])
@pytest.mark.parametrize("time", TIMES)
def test_time_order_with_ties_in_source_order(tmp_path: Path, kind: str, time: str) -> None:
    write(tmp_path, kind, {"user": USERS, "item": ITEMS, "timestamp": TIMES[time]}, CATALOGUE)
    assert detect(tmp_path) == "table"
    # Arrow quotes every text and the header, and a TSV quotes nothing unless asked.
    quotes = True if kind == "tsv" else None
    data = read(tmp_path, filters=LOOSE, options=TableOptions(quotes=quotes))
    assert items_of(data) == EXPECTED
    assert data.items.texts == ("one", None, "three, with a comma")


def test_integer_names_other_columns_and_pictures(
    tmp_path: Path, picture: Callable[..., Path]
) -> None:
    picture(tmp_path / "art" / "one.jpg")
    write(
        tmp_path,
        "parquet",
        {"who": [5, 5, 5], "what": [1, 2, 1], "when": [3, 1, 2]},
        {
            "id": pa.array([1, 2], pa.int32()),
            "title": ["One", None],
            "body": pa.array(["first", "second"]).dictionary_encode(),
            "picture": ["art/one.jpg", "art/two.jpg"],
        },
    )
    options = TableOptions(
        user="who",
        item="what",
        timestamp="when",
        item_id="id",
        texts=("title", "body"),
        image="picture",
    )
    data = read(tmp_path, options=options, filters=LOOSE)
    assert items_of(data) == {"5": ["2", "1", "1"]}
    assert data.items.texts == ("One. first", "second")
    one, two = data.items.images
    assert one is not None and one.path == tmp_path / "art" / "one.jpg" and two is None


def columns(**changes: list[Any]) -> dict[str, Any]:
    return {"user": USERS, "item": ITEMS, "timestamp": TIMES["integers"]} | changes


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("changes", "row", "words"),
    [
        ({"item": [*ITEMS[:4], "9", "2"]}, 4, "item '9' is not in items"),
        ({"user": [*USERS[:3], None, "7", "7"]}, 3, "column 'user' is empty"),
        ({"item": ["", *ITEMS[1:]]}, 0, "column 'item' is empty"),
        ({"timestamp": [1, 2, 3, 4, None, 6]}, 4, "column 'timestamp' is empty or NaN"),
        ({"timestamp": [1, 2, float("nan"), 4, 5, 6]}, 2, "column 'timestamp' is empty or NaN"),
        ({"timestamp": ["1", "2", "3", "soon", "5", "6"]}, 3, "'soon', which is not a time"),
        ({"timestamp": ["2020-01-01", "3", "4", "5", "6", "7"]}, 1, "'3', which is not a time"),
    ],
)
def test_bad_values_are_named(
    tmp_path: Path, kind: str, changes: dict[str, list[Any]], row: int, words: str
) -> None:
    write(tmp_path, kind, columns(**changes), CATALOGUE)
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    # Rows of a Parquet file count from 1; a CSV has a header above them.
    assert caught.value.line == row + (1 if kind == "parquet" else 2)
    assert caught.value.file == tmp_path / f"interactions.{kind}"
    assert words in caught.value.reason
    assert (", row " if kind == "parquet" else ", line ") in str(caught.value)


def test_bad_time_in_a_later_block_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from odmt_fast.data.readers import tabular

    monkeypatch.setattr(tabular, "BLOCK_BYTES", 64)
    rows = [f"u{n},01,{n}" for n in range(200)]
    (tmp_path / "items.csv").write_text("item,text\n01,one\n")
    path = tmp_path / "interactions.csv"
    path.write_text("\n".join(["user,item,timestamp", *rows, "u,01,2020-01-01", "u,01,4"]))
    with pytest.raises(DataError, match="line 202: .*'2020-01-01', which is not a time"):
        read(tmp_path)
    path.write_text("\n".join(["user,item,timestamp", *rows, "u,9,7"]))
    with pytest.raises(DataError, match="line 202: item '9'"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "user,item,time\n7,01,1\n",
            None,
            "column 'timestamp' is missing; did you mean 'time'? (--time-column names it)",
        ),
        ("user,item,timestamp\n7,01,1\n7,01\n", 3, "2 columns where the header has 3"),
        ("user,item,timestamp\n7,01,1\n\n7,\xe9,2\n", 4, "not UTF-8"),
        ("", None, "Empty CSV file"),
    ],
)
def test_malformed_csv_is_named(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    write(tmp_path, "csv", columns(), CATALOGUE)
    (tmp_path / "interactions.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert caught.value.line == line
    assert words in caught.value.reason


def test_wrong_files_and_types_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no interactions here"):
        read(tmp_path, "table")
    write(tmp_path, "parquet", columns(user=[1.5] * 6), CATALOGUE)
    with pytest.raises(DataError, match="column 'user' is of type double"):
        read(tmp_path)
    write(tmp_path, "parquet", columns(timestamp=[True] * 6), CATALOGUE)
    with pytest.raises(DataError, match="type bool, which is not a time"):
        read(tmp_path)
    write(tmp_path, "parquet", columns(), {"item": ["01", "2", "01"], "text": ["", "", ""]})
    with pytest.raises(DataError, match=r"items.parquet, row 3: item '01' is listed twice"):
        read(tmp_path)
    (tmp_path / "items.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(tmp_path)


def test_names_keep_their_codes_when_blocks_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    from odmt_fast.data.readers import columns as module

    monkeypatch.setattr(module, "BLOCKS_BEFORE_MERGE", 2)
    rng = np.random.default_rng(0)
    words = [f"n{n}" for n in rng.integers(0, 40, size=300)]
    column = NameColumn()
    for start in range(0, 300, 30):
        column.add(pa.array(words[start : start + 30]))
    codes, names = column.finish()
    assert [names[int(code)].as_py() for code in codes] == words
    assert names.to_pylist() == list(dict.fromkeys(words))
    nothing = InteractionColumns().finish(("a",))
    unknown = nothing.counts["interactions_unknown"]
    assert (nothing.users, len(nothing.sequences), unknown) == ((), 0, 0)
