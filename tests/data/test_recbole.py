"""RecBole's atomic files: typed headers, files of a split, and items that may be absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from odmt_fast.data import DataError, Filters, detect, read
from odmt_fast.data.readers.recbole import RecBoleOptions

HEAD = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
KEEP = Filters(min_seq_len=3)


def rows(user: str, items: str, start: int = 0) -> list[str]:
    return [f"{user}\t{item}\t{n + 1}\t{start + n}" for n, item in enumerate(items)]


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", "utf-8")


def write_items(folder: Path, *fields: str) -> None:
    head = "\t".join(("item_id:token", *fields))
    write(folder / "x.item", head, *(f"{i}\tThe {i}\tBooks" for i in "abcd"))


def test_interactions_and_items_by_their_typed_headers(tmp_path: Path) -> None:
    write(tmp_path / "x.inter", HEAD, *rows("u", "cab")[::-1], *rows("v", "bca"))
    write_items(tmp_path, "title:token_seq", "category:token")
    assert detect(tmp_path) == "recbole"
    data = read(tmp_path, filters=KEEP)
    assert (data.users, data.items.ids) == (("u", "v"), ("a", "b", "c"))
    assert data.sequences[0].tolist() == [3, 1, 2]
    assert data.items.texts == ("The a", "The b", "The c")
    assert data.parts is None
    both = read(tmp_path, options=RecBoleOptions(texts=("title", "category")), filters=KEEP)
    assert both.items.texts[0] == "The a. Books"


def test_quotes_and_entities_are_what_they_are(tmp_path: Path) -> None:
    write(tmp_path / "x.inter", HEAD, *rows("u", "aba"))
    write(
        tmp_path / "x.item", "item_id:token\tname:token_seq", 'a\t12" disc', 'b\t"Great" &amp; old'
    )
    assert read(tmp_path, filters=KEEP).items.texts == ('12" disc', '"Great" & old')


def test_without_items_those_of_the_interactions_are_taken(tmp_path: Path) -> None:
    write(tmp_path / "x.inter", HEAD, *rows("u", "cab"))
    data = read(tmp_path, filters=KEEP)
    assert data.items.ids == ("c", "a", "b")
    assert data.items.modalities == ()
    assert data.report.kind == "recbole, no items"


def test_a_file_without_times_keeps_its_order_and_says_so(tmp_path: Path) -> None:
    write(tmp_path / "x.inter", "user_id:token\titem_id:token", "u\tc", "u\ta", "u\tb")
    data = read(tmp_path, filters=KEEP)
    assert data.sequences[0].tolist() == [1, 2, 3]
    assert data.report.kind == "recbole, no items, in the order of the file"
    with pytest.raises(DataError, match="field 'time' is missing; it has user_id, item_id"):
        read(tmp_path, options=RecBoleOptions(timestamp="time"))


def test_low_ratings_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "x.inter", HEAD, *rows("u", "cabd"))
    data = read(tmp_path, options=RecBoleOptions(min_rating=2), filters=KEEP)
    assert data.sequences[0].tolist() == [1, 2, 3]
    assert data.items.ids == ("a", "b", "d")
    assert data.report.ratings_low == 1


def test_three_files_are_a_split(tmp_path: Path) -> None:
    write(tmp_path / "x.train.inter", HEAD, *rows("u", "cab"), *rows("v", "ab"))
    write(tmp_path / "x.valid.inter", HEAD, *rows("u", "d", 10))
    write(tmp_path / "x.test.inter", HEAD, *rows("v", "c", 10), *rows("u", "a", 11))
    data = read(tmp_path, filters=KEEP)
    assert data.parts is not None
    assert data.parts.tolist() == [0, 0, 0, 1, 2, 0, 0, 2]
    assert [data.items.ids[i - 1] for i in data.sequences[0]] == list("cabda")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((HEAD.replace(":token", ""), *rows("u", "abc")), "'user_id' in the header has no type"),
        ((HEAD.replace("item_id", "iid"), *rows("u", "abc")), "field 'item_id' is missing"),
        ((HEAD, *rows("u", "ab"), "u\tc\t5"), "line 4: 3 columns separated by '.t', expected 4"),
        ((HEAD, *rows("u", "az")), r"line 3: item 'z' is not in x.item"),
        (
            ("user_id:token\titem_id_list:token_seq\titem_id:token", "u\ta b\tc"),
            "a history of their own",
        ),
    ],
)
def test_faults_are_named(lines: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    write(tmp_path / "x.inter", *lines)
    write_items(tmp_path, "title:token_seq", "category:token")
    with pytest.raises(DataError, match=reason) as raised:
        read(tmp_path)
    assert raised.value.file.name == "x.inter"


def test_texts_that_have_no_usual_name_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "x.inter", HEAD, *rows("u", "abc"))
    write_items(tmp_path, "label:token_seq", "kind:token")
    with pytest.raises(DataError, match="name the texts among item_id, label, kind"):
        read(tmp_path)


def test_several_interaction_files_that_are_no_split(tmp_path: Path) -> None:
    for name in ("x.inter", "y.inter"):
        write(tmp_path / name, HEAD, *rows("u", "abc"))
    with pytest.raises(DataError, match=r"expected one .inter file.* found x.inter, y.inter"):
        read(tmp_path)
