"""Several faults of a file are told together, with their lines, a count and the way on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from odmt_fast.cli import main
from odmt_fast.data import (
    AmazonOptions,
    DataError,
    Filters,
    Interactions,
    OfficialOptions,
    TableOptions,
    read,
)
from odmt_fast.data.readers import faults as module
from odmt_fast.data.readers.faults import Faults

FILTERS = Filters(min_seq_len=3)


def refusal(folder: Path, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(folder, filters=FILTERS, **options)
    assert "\n" not in str(caught.value)
    return caught.value


def table(folder: Path, rows: list[str], items: str = "i0,Tea\ni1,Cup\n") -> Path:
    (folder / "interactions.csv").write_text("\n".join(["user,item,timestamp", *rows]) + "\n")
    (folder / "items.csv").write_text("item,text\n" + items)
    return folder


def test_the_first_ten_are_told_in_order_and_all_are_counted() -> None:
    faults = Faults(Path("x.csv"), lambda rows: [row + 2 for row in rows])
    faults.check()
    for start in (100, 0):
        faults.add(range(start, start + 8), lambda row: f"bad {row}", "mend them")
    with pytest.raises(DataError) as caught:
        faults.check()
    assert str(caught.value) == (
        "x.csv, line 2: bad 0; 16 faults in all: "
        + "; ".join(f"line {row + 2}: bad {row}" for row in (*range(1, 8), 100, 101))
        + "; and 6 more; mend them"
    )


def test_reading_stops_when_there_is_nothing_but_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 3)
    with pytest.raises(DataError, match="over 3 faults in all: line 1: 1; line 2: 2; line 3: 3$"):
        Faults(Path("x.csv")).add(range(4), str)


def test_faults_of_all_columns_are_told_together(tmp_path: Path) -> None:
    rows = ["u,i0,1", ",i0,2", "u,nan,3", "u,i0,", "u,x,5", "u,i0,soon", "None,i1,7"]
    error = refusal(table(tmp_path, rows))
    assert (error.file.name, error.line) == ("interactions.csv", 3)
    assert error.reason == (
        "column 'user' is empty; 6 faults in all: "
        "line 4: column 'item' is 'nan', a missing value; "
        "line 5: column 'timestamp' is empty or NaN; "
        "line 6: item 'x' is not in items.csv; "
        "line 7: column 'timestamp' has 'soon', which is not a time like the ones before; "
        "line 8: column 'user' is 'None', a missing value; "
        "--missing-ids drop leaves such rows out and counts them; "
        "1 unknown item; --unknown-items drop leaves such items out and counts them"
    )


def test_rows_of_parquet_and_of_several_blocks_are_told(tmp_path: Path) -> None:
    table(tmp_path, [])
    (tmp_path / "interactions.csv").unlink()
    rows = {"user": ["u", None, "u", None], "item": ["i0"] * 4, "timestamp": [1, 2, 3, 4]}
    pq.write_table(pa.table(rows), tmp_path / "interactions.parquet", row_group_size=1)
    error = refusal(tmp_path)
    assert "row 2: column 'user' is empty; 2 faults in all: row 4: column" in str(error)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["u,i0", "u,i0,1", "u,i0,1,2"], "2 faults in all: line 4: 4 columns where the header"),
        (["u,i0,1", "u,i0,x", "u,i0,y"], "2 faults in all: line 4: .*'y', which is not a time"),
        (
            ["u,i0,1600000000", "u,i0,1600000000000", "u,i0,1600000000000000"],
            "2 faults in all: line 4: .* microseconds where times before are seconds",
        ),
    ],
)
def test_faults_of_a_table_are_told_together(tmp_path: Path, rows: list[str], words: str) -> None:
    assert refusal(table(tmp_path, rows)).reason
    with pytest.raises(DataError, match=words):
        read(tmp_path)


def test_items_listed_twice_or_without_id_are_told_together(tmp_path: Path) -> None:
    table(tmp_path, ["u,i0,1"], "i0,Tea\ni0,Cup\n,Pot\ni0,Jug\n")
    error = refusal(tmp_path)
    assert (error.file.name, error.line) == ("items.csv", 3)
    assert "3 faults in all: line 4: column 'item' is empty; line 5: item 'i0' is" in error.reason


def test_pictures_outside_the_folder_are_told_together(tmp_path: Path) -> None:
    table(tmp_path, ["u,i0,1"])
    (tmp_path / "items.csv").write_text("item,text,image\ni0,Tea,../a.jpg\ni1,Cup,/b.jpg\n")
    with pytest.raises(DataError, match=r"'\.\./a\.jpg' lies outside .*2 do: .*'/b\.jpg'"):
        read(tmp_path, options=TableOptions(image="image"))


def test_columns_that_lack_are_told_together_with_their_flags(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user_id,SKU,when\n")
    (tmp_path / "items.csv").write_text("sku,title\n")
    options = TableOptions(item="sku", texts=("titel",))
    assert "'titel' is missing; did you mean 'title'? (--text-columns" in str(
        refusal(tmp_path, options=options)
    )
    error = refusal(tmp_path, options=TableOptions(item="sku", texts=("title",)))
    assert error.reason == (
        "column 'user' is missing; did you mean 'user_id'? (--user-column names it); "
        "column 'sku' is missing; did you mean 'SKU'? (--item-column names it); "
        "column 'timestamp' is missing (--time-column names it); it has user_id, SKU, when"
    )


def reviews(folder: Path, lines: list[str]) -> Path:
    (folder / "Things_5.json").write_text("\n".join(lines) + "\n")
    (folder / "meta_Things.json").write_text('{"asin": "i0", "title": "Tea"}\n')
    return folder


def review(user: object, item: object = "i0", time: object = 1) -> dict[str, object]:
    return {"reviewerID": user, "asin": item, "unixReviewTime": time}


@pytest.mark.parametrize("write", [json.dumps, repr], ids=["JSON", "Python"])
def test_faults_of_reviews_are_told_together(tmp_path: Path, write: Any) -> None:
    good = write(review("u"))
    reviews(tmp_path, [good, good[:-3], good, write(review("u", time="May")), write(["u"])])
    error = refusal(tmp_path)
    assert error.line == 2
    assert "3 faults in all: line 4: field 'unixReviewTime' is 'May'" in error.reason
    assert "line 5: not " in error.reason


@pytest.mark.parametrize("write", [json.dumps, repr], ids=["JSON", "Python"])
def test_blank_ids_of_reviews_are_left_out_when_asked(tmp_path: Path, write: Any) -> None:
    rows = [review("u"), review(""), review(None), review("u", "nan"), review("u"), review("u")]
    reviews(tmp_path, [write(row) for row in rows])
    error = refusal(tmp_path)
    assert error.line == 2 and "3 faults in all" in error.reason
    assert error.reason.endswith("; --missing-ids drop leaves such rows out and counts them")
    data = read(tmp_path, filters=FILTERS, options=AmazonOptions(missing_ids="drop"))
    assert (data.users, data.sequences[0].tolist()) == (("u",), [1, 1, 1])
    assert (data.report.interactions_read, data.report.interactions_nameless) == (6, 3)
    (tmp_path / "meta_Things.json").write_text(
        '{"asin": "", "title": "?"}\n{"asin": "i0", "title": "Tea"}\n'
    )
    assert "meta_Things.json, line 1: column 'asin' is empty" in str(refusal(tmp_path))
    data = read(tmp_path, filters=FILTERS, options=AmazonOptions(missing_ids="drop"))
    assert (data.items.ids, data.report.items_nameless) == (("i0",), 1)


def test_blank_ids_of_tables_are_left_out_when_asked(tmp_path: Path) -> None:
    rows = [",i0,1", "u,i0,2", "nan,i1,3", "u,,4", "u,i1,5", "v,i1,6", "u,i0,7"]
    table(tmp_path, rows, ",Pot\ni0,Tea\ni1,Cup\nNULL,Jug\n")
    data = read(tmp_path, filters=FILTERS, options=TableOptions(missing_ids="drop"))
    assert (data.users, data.sequences[0].tolist()) == (("u",), [1, 2, 1])
    report = data.report
    assert (report.interactions_read, report.interactions_nameless) == (7, 3)
    assert (report.users_read, report.items_nameless) == (2, 2)


def official(folder: Path, behaviors: str, text: str) -> Path:
    (folder / "behaviors.tsv").write_text(behaviors)
    (folder / "text.tsv").write_text(text)
    return folder


def test_faults_of_the_official_layout_are_told_together(tmp_path: Path) -> None:
    official(tmp_path, "u\ta a\n", "a\tTea\nb b\tCup\nc\na\tPot\n\tJug\n")
    error = refusal(tmp_path)
    assert error.line == 2 and "4 faults in all: line 3: no TAB" in error.reason
    official(tmp_path, "u\ta x y\n\ta\nu\ta\nv\nw\tz\n", "a\tTea\n")
    error = refusal(tmp_path)
    assert error.reason.startswith("item 'x' is not in text.tsv; 6 faults in all: line 1: item 'y'")
    for words in ("line 2: expected user TAB", "line 3: user 'u' is", "line 4: ", "line 5: item"):
        assert words in error.reason
    assert error.reason.endswith("--unknown-items drop leaves such items out and counts them")


def test_blank_ids_of_the_official_layout_are_left_out_when_asked(tmp_path: Path) -> None:
    official(tmp_path, "u\ta a a\n \ta a\nnan\ta\n", "a\tTea\nnan\t?\n")
    assert "text.tsv, line 2: the item is 'nan'" in str(refusal(tmp_path))
    options = OfficialOptions(missing_ids="drop")
    data = read(tmp_path, filters=FILTERS, options=options)
    assert (data.users, data.items.ids) == (("u",), ("a",))
    report = data.report
    assert (report.interactions_read, report.interactions_nameless) == (6, 3)
    assert report.items_nameless == 1


def test_the_flags_reach_every_reader_or_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, out = tmp_path / "shop", tmp_path / "out"
    shop.mkdir()
    (shop / "interactions.csv").write_text("who;what;when\nu;i0;1\n;i0;2\nu;x;3\nu;i1;4\nu;i1;5\n")
    (shop / "items.csv").write_text("sku;title;brand\ni0;Tea;A\ni1;Cup;B\n")
    words = [
        *("prepare", str(shop), str(out), "--min-length", "3", "--delimiter", ";"),
        *("--user-column", "who", "--item-column", "what", "--item-id-column", "sku"),
        *("--time-column", "when", "--text-columns", "title,brand"),
    ]
    assert main(words) == 1
    assert "--missing-ids drop" in capsys.readouterr().err
    assert main([*words, "--missing-ids", "drop", "--unknown-items", "drop"]) == 0
    assert Interactions.load(out).items.texts == ("Tea. A", "Cup. B")
    assert main([*words, "--option", "user=who"]) == 1
    assert "--user-column and --option user= are both given" in capsys.readouterr().err
    for kind, flag in (("official", "--delimiter"), ("official", "--user-column"),
                       ("amazon", "--quotes"), ("hm", "--image-column")):  # fmt: skip
        given = [flag] if flag == "--quotes" else [flag, ";"]
        assert main([*words[:3], "--kind", kind, *given]) == 1
        told = capsys.readouterr().err
        assert f"{flag} is not for --kind {kind}; it takes --" in told and "--encoding" in told
    (tmp_path / "parquet").mkdir()
    for name in ("interactions", "items"):
        pq.write_table(pa.table({"item": ["i"]}), tmp_path / "parquet" / f"{name}.parquet")
    assert main(["prepare", str(tmp_path / "parquet"), str(out), "--no-quotes", "--overwrite"]) == 1
    assert "--quotes is of CSV files, and these are Parquet" in capsys.readouterr().err
