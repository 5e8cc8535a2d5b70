"""Missing values are no texts and no names; entities are decoded; misspelt fields are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from odmt_fast.data import DataError, Filters, read
from odmt_fast.data.readers.amazon import AmazonOptions
from odmt_fast.data.readers.table import TableOptions
from odmt_fast.data.readers.values import MISSING

FILTERS = Filters(min_seq_len=3)


def shop(folder: Path, texts: list[str], users: tuple[str, ...] = ("u",)) -> Path:
    rows = [f"{user},i{n},{n}" for user in users for n in range(len(texts))]
    (folder / "interactions.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    items = [f"i{n},{text}" for n, text in enumerate(texts)]
    (folder / "items.csv").write_text("\n".join(["item,text", *items]) + "\n")
    return folder


def test_missing_values_are_no_texts(tmp_path: Path) -> None:
    data = read(shop(tmp_path, [*MISSING, " nan ", "Tea"]), filters=FILTERS)
    assert data.items.texts == (*(None,) * (len(MISSING) + 1), "Tea")
    assert data.report.items_without_text == len(MISSING) + 1
    assert data.report.texts_missing == len(MISSING) + 1


def test_entities_are_decoded(tmp_path: Path) -> None:
    data = read(
        shop(tmp_path, ["Tea &amp; cup", "&quot;Pot&quot;", "a &lt; b", "R&D"]), filters=FILTERS
    )
    assert data.items.texts == ("Tea & cup", '"Pot"', "a < b", "R&D")
    assert data.report.texts_decoded == 3


@pytest.mark.parametrize("name", [*MISSING, "", "  ", "\u00a0"])
def test_a_missing_name_is_refused_by_its_line(tmp_path: Path, name: str) -> None:
    shop(tmp_path, ["Tea", "Cup", "Pot"], users=("u", name))
    with pytest.raises(DataError, match=r"interactions\.csv, line 5: column 'user' is"):
        read(tmp_path, filters=FILTERS)


def test_misspelt_fields_are_refused_with_the_nearest(tmp_path: Path) -> None:
    shop(tmp_path, ["Tea", "Cup", "Pot"])
    with pytest.raises(
        DataError,
        match=r"'txt' is missing; did you mean 'text'\? \(--text-columns names it\); it has item, ",
    ):
        read(tmp_path, options=TableOptions(texts=("txt",)))
    folder = tmp_path / "amazon"
    folder.mkdir()
    review = json.dumps({"reviewerID": "u", "asin": "i", "unixReviewTime": 1})
    (folder / "Things_5.json").write_text(review + "\n")
    (folder / "meta_Things.json").write_text(json.dumps({"asin": "i", "title": "Tea"}) + "\n")
    with pytest.raises(DataError, match="no line has the field 'titel'.*did you mean 'title'"):
        read(folder, options=AmazonOptions(texts=("titel",)))


@pytest.mark.parametrize(
    "kind", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_text_type_of_arrow_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    names = pa.array(["i0", "i1", "i2"]).cast(kind)
    interactions = {"user": ["u"] * 3, "item": names, "timestamp": [1, 2, 3]}
    pq.write_table(pa.table(interactions), tmp_path / "interactions.parquet")
    items = {"item": names, "text": pa.nulls(3)}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    data = read(tmp_path, filters=FILTERS)
    assert data.items.ids == ("i0", "i1", "i2")
    assert data.items.texts == (None, None, None)


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    for part in range(2):
        folder = tmp_path / "interactions.parquet"
        folder.mkdir(exist_ok=True)
        rows = {"user": ["u"] * 2, "item": ["i0", f"i{part}"], "timestamp": [part, 5 + part]}
        pq.write_table(pa.table(rows), folder / f"part-{part:05d}.snappy.parquet")
        (folder / "_SUCCESS").touch()
    (tmp_path / "items.csv").write_text("item,text\ni0,Tea\ni1,Cup\n")
    data = read(tmp_path, filters=FILTERS)
    assert [data.items.ids[i - 1] for i in data.sequences[0].tolist()] == ["i0", "i0", "i0", "i1"]
    (tmp_path / "empty.parquet").mkdir()
    with pytest.raises(DataError, match="this folder holds no .parquet file"):
        read(tmp_path, options=TableOptions(interactions="empty.parquet"))


@pytest.mark.parametrize("name", [" i4 ", "I4", "i4\u200b", "i4.0", "\uff494", "0i4"])
def test_an_item_written_in_another_way_is_hinted_at(tmp_path: Path, name: str) -> None:
    (tmp_path / "interactions.csv").write_text(f"user,item,timestamp\nu,{name},1\n")
    (tmp_path / "items.csv").write_text("item,text\ni4,Tea\n")
    with pytest.raises(DataError, match="'i4' is, which differs only in how it is written"):
        read(tmp_path)


def test_a_table_without_rows_is_said_to_have_none(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n")
    (tmp_path / "items.csv").write_text("item,text\ni4,Tea\n")
    with pytest.raises(DataError, match="the file has no rows"):
        read(tmp_path)
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\nu,x,1\nu,y,2\n")
    with pytest.raises(DataError, match="all 2 interactions name items that are not in the item"):
        read(tmp_path, options=TableOptions(unknown_items="drop"))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("user;item;timestamp", "separated by ';', not by ','"),
        ("user::item::timestamp", "separated by '::'"),
        ("user\titem\ttimestamp", r"separated by '\\t'.*name it \.tsv"),
        ("user|item|timestamp", r"separated by '\|'"),
        ("196,242,881250949", "taken for the header and looks like data"),
        ("user,itm,timestamp", "did you mean 'itm'"),
    ],
)
def test_a_wrong_header_is_explained(tmp_path: Path, header: str, words: str) -> None:
    (tmp_path / "interactions.csv").write_text(header + "\n")
    (tmp_path / "items.csv").write_text("item,text\ni4,Tea\n")
    with pytest.raises(DataError, match=words):
        read(tmp_path)


@pytest.mark.parametrize("user", [*MISSING, "", "  "])
@pytest.mark.parametrize("field", ["reviewerID", "asin"])
def test_a_missing_name_in_reviews_is_refused_by_its_line(
    tmp_path: Path, field: str, user: str
) -> None:
    good = {"reviewerID": "u", "asin": "i", "unixReviewTime": 1}
    lines = [json.dumps(good), "", json.dumps({**good, field: user})]
    (tmp_path / "Things_5.json").write_text("\n".join(lines) + "\n")
    (tmp_path / "meta_Things.json").write_text(json.dumps({"asin": "i", "title": "Tea"}) + "\n")
    with pytest.raises(DataError, match=rf"Things_5\.json, line 3: column '{field}' is"):
        read(tmp_path)


@pytest.mark.parametrize("row", [",Tea", "i1,Cup"])
def test_a_bad_row_after_a_long_text_is_named(tmp_path: Path, row: str) -> None:
    shop(tmp_path, ["Tea", "Cup", "Pot"])
    with (tmp_path / "items.csv").open("a") as file:
        file.write("i3," + "x" * 200_000 + '\n\ni4,"two\nlines, ""quoted"""\n' + row + "\n")
    with pytest.raises(DataError, match=r"items\.csv, line 9: "):
        read(tmp_path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    shop(tmp_path, ["Tea", "Cup", "Pot"])
    (tmp_path / "interactions.csv").write_text("user,item,timestamp,item\nu,i0,1,i1\n")
    with pytest.raises(DataError, match="several columns are named 'item'"):
        read(tmp_path)


def test_unknown_items_are_listed_together(tmp_path: Path) -> None:
    rows = "".join(f"u,x{n % 12},{n}\n" for n in range(30))
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\nu,i0,0\n" + rows)
    (tmp_path / "items.csv").write_text("item,text\ni0,Tea\n")
    with pytest.raises(DataError, match="line 3: item 'x0' is not") as caught:
        read(tmp_path)
    listed = ", ".join(f"'x{n}'" for n in range(10))
    assert "; 30 faults in all: line 4: item 'x1' is not" in str(caught.value)
    assert f"and 20 more; 12 unknown items: {listed} and 2 more; --unknown-items drop" in str(
        caught.value
    )


def test_what_readers_change_is_counted_in_every_layout(tmp_path: Path) -> None:
    amazon, official = tmp_path / "amazon", tmp_path / "official"
    amazon.mkdir()
    official.mkdir()
    review = json.dumps({"reviewerID": "u", "asin": "i", "unixReviewTime": 1}) + "\n"
    (amazon / "Things_5.json").write_text(review * 3)
    meta = {"asin": "i", "title": "Tea &amp; cup", "brand": "NULL"}
    (amazon / "meta_Things.json").write_text(json.dumps(meta) + "\n")
    (official / "behaviors.tsv").write_text("u\ti j i\n")
    (official / "text.tsv").write_text('i\tTea &lt; cup\nj\tnan\nk\t"Pot"\n')
    report = read(amazon, options=AmazonOptions(texts=("title", "brand")), filters=FILTERS).report
    assert (report.texts_decoded, report.texts_missing) == (1, 1)
    report = read(official, filters=FILTERS).report
    assert (report.texts_decoded, report.texts_missing, report.texts_quoted) == (1, 1, 1)
    assert report.items_without_image == 2


def test_paths_of_pictures_that_lead_nowhere_are_counted(tmp_path: Path) -> None:
    shop(tmp_path, ["Tea", "Cup", "Pot"])
    (tmp_path / "items.csv").write_text("item,text,image\ni0,Tea,a.jpg\ni1,Cup,\ni2,Pot,b/c.png\n")
    report = read(tmp_path, options=TableOptions(image="image"), filters=FILTERS).report
    assert (report.images_absent, report.items_without_image) == (2, 3)
    assert "2 paths of images at which there is no file" in "\n".join(report.lines())
