from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from odmt_fast.data import DataError, Filters, OfficialOptions, detect, read

LOOSE = Filters(min_seq_len=3)


def test_folder_is_read_and_everything_is_counted(official: Path) -> None:
    data = read(official)
    assert data.users == ("anna", "bob")
    assert data.items.ids == ("bowl", "mug", "vase")
    assert data.items.texts == ("A bowl", None, "Une vase bleuté")
    assert [items.tolist() for items in data.sequences] == [[2, 3, 2, 1, 3], [3, 2, 1, 2, 3, 1]]
    report = data.report
    assert (report.kind, report.source) == ("official", str(official))
    assert (report.users_read, report.items_read, report.interactions_read) == (3, 4, 13)
    assert (report.users_too_short, report.items_unused, report.images_unused) == (1, 1, 1)
    assert (report.items_without_text, report.items_without_image, report.items_bare) == (1, 1, 0)
    bowl, mug, vase = data.items.images
    assert vase is None and mug is not None and bowl is not None
    assert bowl.load().size == (8, 6) and bowl.load().mode == "RGB"


def test_names_of_the_published_files_are_found(official: Path) -> None:
    (official / "behaviors.tsv").rename(official / "Arts_Crafts_and_Sewing_user_behaviours.tsv")
    (official / "text.tsv").rename(official / "Arts_Crafts_and_Sewing_text.tsv")
    assert detect(official) == "official"
    assert read(official).n_users == 2


def test_comma_separated_titles_keep_their_commas(official: Path) -> None:
    (official / "text.tsv").unlink()
    (official / "10wu_ks_title.csv").write_text("bowl,Red, round\nmug,Cup\nvase,V\n")
    assert read(official).items.texts == ("Red, round", "Cup", "V")


def test_stray_blanks_line_ends_and_marks_do_no_harm(official: Path) -> None:
    (official / "behaviors.tsv").write_bytes(
        b"\xef\xbb\xbfanna\t mug  vase mug \r\n\r\nbob\t\ncleo\tmug\n\n"
    )
    data = read(official, filters=LOOSE)
    assert data.users == ("anna",)
    assert data.sequences[0].tolist() == [1, 2, 1]
    report = data.report
    assert (report.users_read, report.users_empty, report.users_too_short) == (3, 1, 1)
    assert (report.blank_lines, report.interactions_read) == (2, 4)


@pytest.mark.parametrize(
    ("name", "content", "line", "words"),
    [
        ("behaviors.tsv", b"a\tmug mug vase\nb\tmug  vase\nc\tmug spoon\n", 3, "'spoon' is not in"),
        ("behaviors.tsv", b"a\tspoon\n", 1, "'spoon' is not in text.tsv"),
        ("behaviors.tsv", b"a\tmug\nb\t\nc\nd\tmug\n", 3, "expected user TAB items"),
        ("behaviors.tsv", b"\tmug vase\n", 1, "expected user TAB items"),
        ("behaviors.tsv", b"a\tmug\nb\tmug\na\tvase\n", 3, "user 'a' is listed twice"),
        ("behaviors.tsv", b"a\tmug\nb\tm\xffg\n", 2, "not UTF-8 (byte 4 of the line)"),
        ("text.tsv", b"bowl\tA\nmug\tB\nbowl\tC\n", 3, "item 'bowl' is listed twice"),
        ("text.tsv", b"bowl\tA\n\nmug\n", 3, "no TAB between item and text"),
        ("text.tsv", b"bowl\tA\nmug cup\tB\n", 2, "'mug cup' is not an item name"),
        ("text.tsv", b"bowl\tA\nmug\tcaf\xe9\n", 2, "not UTF-8 (byte 8 of the line)"),
    ],
)
def test_bad_lines_are_named(
    official: Path, name: str, content: bytes, line: int, words: str
) -> None:
    (official / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(official)
    error = caught.value
    assert (error.file, error.line) == (official / name, line)
    assert words in error.reason
    assert str(error) == f"{official / name}, line {line}: {error.reason}"
    assert "\n" not in str(error)


def test_unknown_item_in_a_later_block_is_named(
    official: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from odmt_fast.data.readers import official as reader

    monkeypatch.setattr(reader, "USERS_A_BLOCK", 2)
    (official / "behaviors.tsv").write_text(
        "a\tmug mug mug\nb\t\n\nc\tvase vase vase\nd\tmug\ne\tbowl spoon\n"
    )
    with pytest.raises(DataError, match="line 6: item 'spoon'"):
        read(official)
    (official / "behaviors.tsv").write_text("a\tmug mug mug\nb\t\n\nc\tvase mug vase\n")
    data = read(official, filters=LOOSE)
    assert [items.tolist() for items in data.sequences] == [[1, 1, 1], [2, 1, 2]]


def test_picture_that_cannot_be_decoded_is_named(official: Path) -> None:
    bowl = official / "images" / "bowl.jpg"
    bowl.write_bytes(bowl.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        read(official)
    assert (caught.value.file, caught.value.line) == (bowl, None)
    data = read(official, decode_images=False)
    source = data.items.images[0]
    assert source is not None
    with pytest.raises(DataError, match="cannot be decoded"):
        source.load()
    bowl.unlink()
    with pytest.raises(DataError, match="gone"):
        source.load()
    assert read(official).report.items_without_image == 2


def test_two_pictures_of_an_item_are_refused(official: Path, picture: Callable[..., Path]) -> None:
    picture(official / "images" / "more" / "bowl.png")
    with pytest.raises(DataError, match="item 'bowl' has a second image"):
        read(official)
    picture(official / "images" / "more" / "mug.jpg")
    with pytest.raises(DataError, match=r"bowl.png: .*; 2 do: .*mug.jpg: item 'mug' has a second"):
        read(official)


def test_missing_and_ambiguous_files_are_named(official: Path) -> None:
    with pytest.raises(DataError, match="no image folder or LMDB here"):
        read(official, options=OfficialOptions(images="pictures"))
    with pytest.raises(DataError, match="there is no such file"):
        read(official, options=OfficialOptions(text="titles.tsv"))
    (official / "x_text.tsv").write_text("bowl\tA bowl\n")
    (official / "text.tsv").rename(official / "y_text.tsv")
    with pytest.raises(DataError, match="several files match"):
        read(official)
    assert read(official, options=OfficialOptions(text="y_text.tsv")).n_items == 3
    with pytest.raises(DataError, match="no user sequences here"):
        read(official / "images", "official")


def test_quoted_titles_and_unknown_items(tmp_path: Path) -> None:
    (tmp_path / "x_pairs.tsv").write_text("u\ti0 i9 i1 i2\nv\ti9\n")
    (tmp_path / "x_title.csv").write_text(
        'i0,"Tea, cup"\ni1,"He said ""hi"""\ni2,Pot, large &amp; blue\n'
    )
    with pytest.raises(
        DataError,
        match=r"'i9' is not in x_title\.csv; 2 faults in all: line 2: .*--unknown-items drop",
    ):
        read(tmp_path)
    options = OfficialOptions(unknown_items="drop")
    data = read(tmp_path, options=options, filters=Filters(min_seq_len=3))
    assert data.items.texts == ("Tea, cup", 'He said "hi"', "Pot, large & blue")
    assert data.report.interactions_unknown == 2
    assert (data.report.interactions_read, data.report.users_empty) == (5, 1)
    (tmp_path / "x_title.csv").write_text('i0,"Tea\ncup"\n')
    with pytest.raises(DataError, match=r"x_title\.csv, line 1: the quoted text is damaged"):
        read(tmp_path)
