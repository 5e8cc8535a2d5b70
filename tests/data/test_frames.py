"""Frames of any library give the dataset, the report and the errors of the same tables in files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from odmt_fast import Dataset
from odmt_fast.data import DataError, Filters, Interactions, TableOptions, read
from odmt_fast.storage import Digest

ITEMS: dict[str, list[Any]] = {
    "item": [f"i{item}" for item in range(9)],
    "text": ["Mug &amp; saucer", None, "nan", *(f"thing {item}" for item in range(3, 9))],
    "brand": ["Acme", "  two  words ", None, *("Acme",) * 6],
}
ROWS = [(f"u{user}", f"i{(user + step) % 8}", 5 - step) for user in range(4) for step in range(6)]
INTERACTIONS: dict[str, list[Any]] = {
    "user": [row[0] for row in ROWS],
    "item": [row[1] for row in ROWS],
    "timestamp": [row[2] for row in ROWS],
}


class Capsule:
    """A frame of a library that nobody knows: it hands out an Arrow stream and nothing else."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._table = pa.table(columns)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def _pandas(columns: dict[str, list[Any]]) -> Any:
    return pytest.importorskip("pandas").DataFrame(columns, index=[7] * len(columns["item"]))


def _polars(columns: dict[str, list[Any]]) -> Any:
    return pytest.importorskip("polars").DataFrame(columns)


LIBRARIES: dict[str, Callable[[dict[str, list[Any]]], Any]] = {
    "arrow": pa.table,
    "dict": dict,
    "capsule": Capsule,
    "pandas": _pandas,
    "polars": _polars,
}


def digest(data: Interactions) -> str:
    """Of everything but where it was read."""
    found = Digest().add_array(data.sequences.offsets).add_array(data.sequences.items)
    for name in (*data.users, *data.items.ids):
        found.add(name)
    for text in data.items.texts:
        found.add(text)
    for image in data.items.images:
        found.add(None if image is None else image.digest())
    counts = {**asdict(data.report), "kind": "", "source": ""}
    return found.add(repr(counts)).hex


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same two tables as Parquet files, with a picture."""
    pq.write_table(pa.table(INTERACTIONS), tmp_path / "interactions.parquet")
    pq.write_table(pa.table(ITEMS), tmp_path / "items.parquet")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "images" / "i3.png")
    return tmp_path


@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_equal_files(library: str, folder: Path) -> None:
    make = LIBRARIES[library]
    texts, filters = ("text", "brand"), Filters(k_core=2)
    from_files = read(folder, options=TableOptions(texts=texts), filters=filters)
    made = Dataset.from_frames(
        make(INTERACTIONS), make(ITEMS), folder / "images", texts=texts, filters=filters
    )
    assert digest(made) == digest(from_files)
    assert (made.report.texts_decoded, made.report.texts_missing) == (1, 1)
    assert made.report.kind == "frames"
    # What is saved is what the files give, and is read back as a dataset.
    made.save(folder / "a")
    assert digest(Dataset.load(folder / "a")) == digest(from_files)


@pytest.mark.parametrize("library", LIBRARIES)
def test_columns_of_other_types_and_names(library: str) -> None:
    when = np.datetime64("2026-01-01", "s") + np.array([row[2] for row in ROWS])
    columns = {
        "who": [int(row[0][1:]) for row in ROWS],
        "item": [int(row[1][1:]) for row in ROWS],
        "when": when.astype("datetime64[us]").tolist(),
    }
    made = Dataset.from_frames(LIBRARIES[library](columns), user="who", timestamp="when")
    assert made.users == ("0", "1", "2", "3")
    # Times count down: the sequence is that of the rows backwards.
    first = [made.items.ids[item - 1] for item in made.sequences[0]]
    assert first == ["5", "4", "3", "2", "1", "0"]
    in_order = Dataset.from_frames(LIBRARIES[library](columns), user="who", timestamp=None)
    assert in_order.sequences.items.tolist() != made.sequences.items.tolist()
    assert in_order.items.modalities == ()


def test_categories_are_texts() -> None:
    table = pa.table(INTERACTIONS)
    for name in ("user", "item"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].dictionary_encode())
    assert digest(Dataset.from_frames(table)) == digest(Dataset.from_frames(INTERACTIONS))


def test_pictures_by_a_column(folder: Path) -> None:
    items = {**ITEMS, "picture": [None] * 3 + ["i3.png", "absent.png"] + [None] * 4}
    made = Dataset.from_frames(INTERACTIONS, items, folder / "images", image="picture")
    assert [image is not None for image in made.items.images].count(True) == 1
    assert made.report.images_absent == 1
    with pytest.raises(ValueError, match="name the folder they start from by images="):
        Dataset.from_frames(INTERACTIONS, items, image="picture")
    items["picture"][0] = "../items.parquet"
    with pytest.raises(DataError, match="lies outside of this folder"):
        Dataset.from_frames(INTERACTIONS, items, folder / "images", image="picture")


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({"item": None}, {}, r"^<interactions>: column 'item' is missing.*\(item= names it\)"),
        ({}, {"texts": ("titel",)}, r"^<items>: column 'titel' is missing.*\(texts= names it\)"),
        (
            {"user": ["", *INTERACTIONS["user"][1:]]},
            {},
            r'^<interactions>, row 1: .*empty.*missing_ids="drop"',
        ),
        ({"item": ["i77", *INTERACTIONS["item"][1:]]}, {}, r"row 1: item 'i77' is not in <items>"),
        ({"item": ["i77", *INTERACTIONS["item"][1:]]}, {}, r'unknown_items="drop" leaves'),
        ({"user": [0.5] * len(ROWS)}, {}, "column 'user' is of type double; write it as text"),
        ({"timestamp": [None] * len(ROWS)}, {}, "<interactions>.*'timestamp'"),
        ({}, {"missing_images": "hide"}, 'missing_images="hide" does not exist'),
        ({}, {"unknown_items": "hide"}, 'unknown_items="hide" does not exist'),
    ],
)
def test_errors_name_frame_row_and_argument(
    change: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    columns = {name: v for name, v in {**INTERACTIONS, **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        Dataset.from_frames(columns, ITEMS, **arguments)


def test_what_is_no_frame() -> None:
    with pytest.raises(DataError, match="<interactions>: int cannot be read as a table"):
        Dataset.from_frames(3)
    twice = {name: [*values, values[0]] for name, values in ITEMS.items()}
    with pytest.raises(DataError, match="<items>, row 10: item 'i0' is listed twice"):
        Dataset.from_frames(INTERACTIONS, twice)
    with pytest.raises(DataError, match=r"dict: no user is left of 4 .*lower the filters"):
        Dataset.from_frames(INTERACTIONS, filters=Filters(min_seq_len=9))
