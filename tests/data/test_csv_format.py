"""Encodings, delimiters and quotation marks of tables, as said or as their names say."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odmt_fast.data import DataError, Filters, HmOptions, Interactions, TableOptions, read
from odmt_fast.data.readers.amazon import AmazonOptions
from odmt_fast.data.readers.csv_format import CsvFormat, csv_lines
from odmt_fast.data.readers.official import OfficialOptions

FILTERS = Filters(min_seq_len=3)
TITLES = ("Crème brûlée", "Café, noir", "Tea")


def shop(folder: Path, delimiter: str, suffix: str, titles: tuple[str, ...] = TITLES) -> Path:
    rows = [["user", "item", "timestamp"], *(["ü", f"i{n}", str(n)] for n in range(len(titles)))]
    items = [["item", "text"], *([f"i{n}", title] for n, title in enumerate(titles))]
    for stem, table in (("interactions", rows), ("items", items)):
        text = "".join(delimiter.join(row) + "\n" for row in table)
        (folder / f"{stem}{suffix}").write_text(text, "utf-8")
    return folder


def reencode(path: Path, encoding: str) -> None:
    path.write_bytes(path.read_text("utf-8").encode(encoding))


@pytest.mark.parametrize(
    ("delimiter", "suffix", "said"),
    [
        ("\t", ".tsv", None),
        ("\t", ".csv", "tab"),
        (";", ".csv", ";"),
        ("|", ".tsv", "|"),
        ("::", ".csv", "::"),
        ("§", ".csv", "§"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le"])
def test_delimiters_and_encodings(
    tmp_path: Path, delimiter: str, suffix: str, said: str | None, encoding: str
) -> None:
    shop(tmp_path, delimiter, suffix)
    for path in tmp_path.iterdir():
        reencode(path, encoding)
    data = read(tmp_path, options=TableOptions(delimiter=said, encoding=encoding), filters=FILTERS)
    assert (data.users, data.items.texts) == (("ü",), TITLES)


def test_every_reader_takes_an_encoding(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("official", "amazon", "hm")]
    official, amazon, hm = places
    for place in places:
        place.mkdir()
    (official / "behaviors.tsv").write_text("ü\té é é\n", "latin-1")
    (official / "text.tsv").write_text("é\tThé\n", "latin-1")
    review = '{"reviewerID": "ü", "asin": "é", "unixReviewTime": 1}\n'
    (amazon / "Things_5.json").write_text(review * 3, "latin-1")
    (amazon / "meta_Things.json").write_text('{"asin": "é", "title": "Thé"}\n', "latin-1")
    (hm / "transactions_train.csv").write_text(
        "t_dat,customer_id,article_id\n" + "2020-01-01,ü,é\n" * 3, "latin-1"
    )
    (hm / "articles.csv").write_text(
        "article_id,prod_name,product_type_name,detail_desc\né,Thé,,\n", "latin-1"
    )
    for place, options in zip(places, (OfficialOptions, AmazonOptions, HmOptions), strict=True):
        with pytest.raises(DataError, match=r"not UTF-8 .*--encoding [\w.]+=cp1252"):
            read(place)
        data = read(place, options=options(encoding="latin-1"), filters=FILTERS)
        assert (data.users, data.items.ids, data.items.texts) == (("ü",), ("é",), ("Thé",))


def test_one_file_of_two_has_its_own_encoding_and_delimiter(tmp_path: Path) -> None:
    shop(tmp_path, ",", ".csv", ("Crème", "Thé", "Tea"))
    items = tmp_path / "items.csv"
    items.write_text(items.read_text("utf-8").replace(",", ";"), "cp1252")
    options = TableOptions(encoding="items.csv=cp1252", delimiter="items.csv=;")
    assert read(tmp_path, options=options, filters=FILTERS).items.texts == ("Crème", "Thé", "Tea")
    with pytest.raises(ValueError, match="item.csv=cp1252 is of no file that is read; these are"):
        read(tmp_path, options=TableOptions(encoding="item.csv=cp1252"))
    # Read as cp1252, the names of the users would be garbled in silence.
    with pytest.raises(DataError, match=r"interactions\.csv: this is UTF-8, which .* would garble"):
        (tmp_path / "items.csv").write_text("item,text\ni0,Tea\n")
        read(tmp_path, options=TableOptions(encoding="cp1252", unknown_items="drop"))


@pytest.mark.parametrize(
    ("encoding", "content", "words"),
    [
        ("ascii", b"user,item,timestamp\nu,i,1\nu,\xe9,2\n", r"line 3: not ascii \(byte 29 of"),
        ("utf-16", b"user,item,timestamp\n", "line 1: not utf-16 "),
        (
            "utf-8",
            b"user,item,timestamp\n\xe9,i,1\nu,\xe9,2\n",
            "line 2: .*2 faults in all: line 3: not UTF-8",
        ),
    ],
)
def test_a_wrong_encoding_names_file_line_and_byte(
    tmp_path: Path, encoding: str, content: bytes, words: str
) -> None:
    (tmp_path / "interactions.csv").write_bytes(content)
    (tmp_path / "items.csv").write_text("item,text\ni,Tea\n")
    with pytest.raises(DataError, match=rf"interactions\.csv, {words}.*--encoding"):
        read(tmp_path, options=TableOptions(encoding=f"interactions.csv={encoding}"))


def test_a_file_in_another_encoding_may_be_packed(tmp_path: Path) -> None:
    shop(tmp_path, ";", ".csv", ("Thé", "Tea", "Pot"))
    items = tmp_path / "items.csv"
    packed = gzip.compress(items.read_text("utf-8").encode("latin-1"))
    (tmp_path / "items.csv.gz").write_bytes(packed)
    items.unlink()
    options = TableOptions(encoding="items.csv.gz=latin-1", delimiter=";")
    assert read(tmp_path, options=options, filters=FILTERS).items.texts[0] == "Thé"


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "json"])
def test_a_damaged_gzip_is_named_in_every_encoding(
    tmp_path: Path, kind: str, encoding: str
) -> None:
    rows = "".join(
        f"ü{n},i,{n}\n".replace(",", "\t" if kind == "tsv" else ",") for n in range(9999)
    )
    if kind == "json":
        rows = "".join(
            f'{{"reviewerID": "ü{n}", "asin": "i", "unixReviewTime": {n}}}\n' for n in range(9999)
        )
        name, items, options = "Things_5.json.gz", "meta_Things.json", AmazonOptions
        (tmp_path / items).write_text('{"asin": "i", "title": "Tea"}\n')
    else:
        name, items, options = f"interactions.{kind}.gz", "items.csv", TableOptions  # type: ignore[assignment]
        rows = ("user\titem\ttimestamp\n" if kind == "tsv" else "user,item,timestamp\n") + rows
        (tmp_path / items).write_text("item,text\ni,Tea\n")
    packed = gzip.compress(rows.encode(encoding))
    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=rf"{name}, line \d+: the gzip is damaged|{name}: the gzip"):
        read(tmp_path, options=options(encoding=encoding))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encoding": "latin1x"}, r"--encoding latin1x is not known; did you mean"),
        ({"encoding": "rot13"}, "--encoding rot13 is not known"),
        ({"encoding": "items.csv=klingon"}, "--encoding klingon is not known"),
        ({"delimiter": ""}, "--delimiter '' cannot stand"),
        ({"delimiter": '"'}, "cannot stand between columns"),
        ({"unknown_items": "sometimes"}, "--unknown-items sometimes does not exist; use error"),
        ({"missing_ids": "keep"}, "--missing-ids keep does not exist; use error, drop"),
        ({"time_unit": "h"}, "--time-unit h does not exist; use auto, s, ms"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TableOptions(**options)  # type: ignore[arg-type]


TV = ('27" screen', '"Best" of', 'He said "hi', "plain", "5'11\" tall")


def titles(data: Interactions) -> tuple[str | None, ...]:
    return data.items.texts


@pytest.mark.parametrize(
    ("suffix", "delimiter", "said"), [(".tsv", "\t", None), (".csv", "::", "::")]
)
def test_quotation_marks_between_tabs_are_letters(
    tmp_path: Path, suffix: str, delimiter: str, said: str | None
) -> None:
    shop(tmp_path, delimiter, suffix, TV)
    data = read(tmp_path, options=TableOptions(delimiter=said), filters=FILTERS)
    assert titles(data) == TV
    assert data.report.interactions_read == data.report.items_read == len(TV)


def test_two_odd_marks_in_a_tsv_of_interactions_swallow_nothing(tmp_path: Path) -> None:
    shop(tmp_path, "\t", ".tsv")
    rows = "".join(f'"u\ti{n}\t{n}\n' for n in range(3)) + "v\ti0\t9\n"
    (tmp_path / "interactions.tsv").write_text("user\titem\ttimestamp\n" + rows)
    data = read(tmp_path, filters=FILTERS)
    assert data.users == ('"u',) and data.report.interactions_read == 4


def test_a_csv_without_quoting_is_read_when_said(tmp_path: Path) -> None:
    shop(tmp_path, ",", ".csv", TV)
    with pytest.raises(DataError, match=r"items\.csv, line 6: .* --no-quotes"):
        read(tmp_path)
    assert titles(read(tmp_path, options=TableOptions(quotes=False), filters=FILTERS)) == TV


def test_a_tsv_that_quotes_is_counted_and_read_when_said(tmp_path: Path) -> None:
    shop(tmp_path, "\t", ".tsv", ('"27"" screen"', '"a\ttab"', "Tea"))
    with pytest.raises(DataError, match=r"items\.tsv, line 3: 3 columns where the header has 2"):
        read(tmp_path)
    data = read(tmp_path, options=TableOptions(quotes=True), filters=FILTERS)
    assert titles(data) == ('27" screen', "a tab", "Tea")
    shop(tmp_path, "\t", ".tsv", ('"27"" screen"', '"Pot"', "Tea"))
    data = read(tmp_path, filters=FILTERS)
    assert titles(data)[1] == '"Pot"' and data.report.texts_quoted == 2
    assert "2 texts in quotation marks" in "\n".join(data.report.lines())
    shop(tmp_path, "\t", ".tsv")
    header = (tmp_path / "items.tsv").read_text("utf-8").replace("item\ttext", '"item"\t"text"')
    (tmp_path / "items.tsv").write_text(header, "utf-8")
    with pytest.raises(DataError, match="names stand in quotation marks: pass --quotes"):
        read(tmp_path)


def test_a_quoted_field_keeps_a_delimiter_of_two_letters(tmp_path: Path) -> None:
    shop(tmp_path, "::", ".csv", ('"a::b"', "Tea", "Pot"))
    options = TableOptions(delimiter="::", quotes=True)
    assert titles(read(tmp_path, options=options, filters=FILTERS)) == ("a::b", "Tea", "Pot")
    (tmp_path / "items.csv").write_text("item::text\ni0::a\x1fb\n")
    with pytest.raises(DataError, match=r"items\.csv: the letter U\+001F"):
        read(tmp_path, options=options)


CELL = st.text(st.sampled_from('ab ",\n\r'), max_size=4)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), st.sampled_from("\n\r"))
def test_lines_of_rows_are_those_of_the_csv_module(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str
) -> None:
    path = tmp_path_factory.mktemp("rows") / "x.csv"
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    lines = ["a,b", *quoted]
    path.write_text(end.join(lines) + end, newline="")
    ends, number = [], 0
    for line in lines:
        number += len((line + end).splitlines())
        ends.append(number)
    assert csv_lines(path, CsvFormat(), range(len(rows))) == ends[1:]
