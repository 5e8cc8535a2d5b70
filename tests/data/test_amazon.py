from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from odmt_fast.data import AmazonOptions, DataError, Filters, detect, read

LOOSE = Filters(min_seq_len=3)
# (user, item, time); ann's two purchases at time 5 keep the order of the file.
REVIEWS = [
    ("ann", "B2", 9),
    ("bob", "B1", 1),
    ("ann", "B3", 5),
    ("ann", "B1", 5),
    ("bob", "B9", 2),
    ("bob", "B2", 3),
    ("bob", "B3", 2),
]
METADATA: list[dict[str, Any]] = [
    {"asin": "B1", "title": "Red  yarn", "category": ["Arts", "Yarn"], "price": "$3"},
    {"asin": "B2", "category": [], "price": 4, "details": {"x": [1]}},
    {"asin": "B1", "title": "Red yarn again"},
    {"asin": "B3", "title": "Ruler", "brand": None},
]


def lines(path: Path, records: list[Any]) -> Path:
    text = "".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def reviews(rows: list[tuple[str, str, int]]) -> list[Any]:
    return [
        {"reviewerID": u, "asin": i, "unixReviewTime": t, "overall": 5.0, "style": {"Size:": "M"}}
        for u, i, t in rows
    ]


@pytest.fixture(params=[".json.gz", ".json"])
def amazon(request: pytest.FixtureRequest, tmp_path: Path, picture: Callable[..., Path]) -> Path:
    lines(tmp_path / f"Arts_5{request.param}", reviews(REVIEWS))
    lines(tmp_path / f"meta_Arts{request.param}", METADATA)
    picture(tmp_path / "images" / "B3.jpg")
    return tmp_path


def test_reviews_and_metadata(amazon: Path) -> None:
    assert detect(amazon) == "amazon"
    data = read(amazon, filters=LOOSE)
    assert data.users == ("ann", "bob")
    assert data.items.ids == ("B1", "B2", "B3")
    assert data.items.texts == ("Red yarn", None, "Ruler")
    assert [image is None for image in data.items.images] == [True, True, False]
    assert [items.tolist() for items in data.sequences] == [[3, 1, 2], [1, 3, 2]]
    report = data.report
    assert (report.interactions_read, report.interactions_unknown) == (7, 1)
    assert report.repeated_items == 1


def test_lists_are_joined(amazon: Path) -> None:
    options = AmazonOptions(texts=("title", "category"))
    assert read(amazon, filters=LOOSE, options=options).items.texts[:2] == (
        "Red yarn. Arts. Yarn",
        None,
    )


def test_unlisted_items_can_be_refused(amazon: Path) -> None:
    with pytest.raises(DataError, match="line 5: item 'B9' is not in meta_Arts"):
        read(amazon, options=AmazonOptions(unknown_items="error"))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"reviewerID": "x", "asin": "B1"}, "field 'unixReviewTime' is missing"),
        ({"reviewerID": "x", "asin": "B1", "unixReviewTime": "May"}, "field 'unixReviewTime' is"),
        (
            {"reviewerID": None, "asin": "B1", "unixReviewTime": 1},
            "column 'reviewerID' is empty; --missing-ids drop",
        ),
        ('{"reviewerID": "x", "asin": "B1", ', "not JSON"),
        ('{"reviewerID": "x", "asin": "B1", "unixReviewTime": NaN}', "field 'unixReviewTime' is"),
        ("[1, 2]", "not a JSON object"),
    ],
)
def test_bad_reviews_are_named(amazon: Path, bad: Any, words: str) -> None:
    (path,) = amazon.glob("Arts*")
    lines(path, [*reviews(REVIEWS[:2]), bad, *reviews(REVIEWS[2:])])
    with pytest.raises(DataError) as caught:
        read(amazon)
    assert (caught.value.file, caught.value.line) == (path, 3)
    assert words in caught.value.reason


def test_broken_archive_and_missing_files_are_named(amazon: Path) -> None:
    (path,) = amazon.glob("Arts*")
    if path.suffix == ".gz":
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(DataError, match=r"Arts_5\.json\.gz, line \d+: the gzip is damaged"):
            read(amazon)
    lines(amazon / "Other.json", [])
    with pytest.raises(DataError, match="expected one file of reviews"):
        read(amazon)
    with pytest.raises(DataError, match="no such file"):
        read(amazon, options=AmazonOptions(reviews="gone.json.gz"))


def test_prices_and_categories_are_texts_whatever_they_are_written_as(tmp_path: Path) -> None:
    metadata = [
        {"asin": "B1", "title": "Yarn", "price": 2.99, "categories": [["Arts", "Yarn"], ["Wool"]]},
        {"asin": "B2", "title": "Pen", "price": "from $5", "brand": "Bic", "categories": ["Ink"]},
        {"asin": "B3", "title": "Ruler", "price": None, "rank": {"Office": 3}},
    ]
    rows = [("ann", f"B{n}", n) for n in (1, 2, 3)]
    options = AmazonOptions(texts=("title", "brand", "price", "categories"))
    for name, written in (("json", json.dumps), ("literals", repr)):
        folder = tmp_path / name
        folder.mkdir()
        lines(folder / "Arts_5.json", reviews(rows))
        lines(folder / "meta_Arts.json", [written(record) for record in metadata])
        data = read(folder, options=options, filters=LOOSE)
        assert data.items.texts == (
            "Yarn. 2.99. Arts. Yarn. Wool",
            "Pen. Bic. from $5. Ink",
            "Ruler",
        )


def test_other_fields_are_named_or_refused_with_the_nearest(tmp_path: Path) -> None:
    rows = [{"who": "ann", "sku": item, "when": time} for item, time in (("a", 3), ("b", 1))]
    lines(tmp_path / "log.jsonl", [*rows, {"who": "ann", "sku": "a", "when": 2}])
    lines(tmp_path / "meta.jsonl", [{"sku": "a", "title": "Tea"}, {"sku": "b", "title": "Cup"}])
    options = AmazonOptions(user="who", item="sku", timestamp="when")
    data = read(tmp_path, options=options, filters=LOOSE)
    assert [data.items.ids[i - 1] for i in data.sequences[0].tolist()] == ["b", "a", "a"]
    with pytest.raises(DataError, match=r"no field 'whom'; did you mean 'who'\?.*--user-column"):
        read(tmp_path, options=AmazonOptions(user="whom", item="sku", timestamp="when"))
