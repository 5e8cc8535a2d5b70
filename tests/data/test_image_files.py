"""Which file is the picture of which item, and pictures that cannot be read."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from odmt_fast.data import DataError, Filters, Interactions, read
from odmt_fast.data.readers.image_files import match_images

CASES = Path(
    os.environ.get("ODMT_FAST_SHARED", Path(__file__).parents[2].parent / "shared"), "cases"
)
LEAST = Filters(min_seq_len=3)


def case(name: str, **arguments: object) -> Interactions:
    if not (CASES / name).is_dir():
        pytest.skip(f"needs {CASES / name} (ODMT_FAST_SHARED)")
    return read(CASES / name, filters=LEAST, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["a-suffixes", "b-no-suffix", "c-macos-leftovers", "g-dots-in-ids"],
)
def test_every_way_to_name_pictures_is_read(name: str) -> None:
    data = case(f"14-picture-names/{name}")
    assert len(data.items) == 6 and data.report.items_without_image == 0
    assert data.report.images_unused == data.report.files_foreign == 0


@pytest.mark.parametrize("name", ["d-numbered-pictures-of-an-item", "e-thumbs-beside"])
def test_two_pictures_of_an_item_are_refused_naming_both(name: str) -> None:
    with pytest.raises(DataError, match="item 'i0' has a second image, .*; keep one: ") as caught:
        case(f"14-picture-names/{name}")
    assert "pictures are named <item>.jpg" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("a-zero-bytes", 1),
        ("b-html", 1),
        ("c-truncated-jpeg", 1),
        ("d-last-bytes-lost", 1),
        ("e-several", 3),
        ("g-truncated-png", 1),
        ("h-svg", 1),
        ("i-400-megapixels", 1),
    ],
)
def test_broken_pictures_are_named_together(name: str, broken: int) -> None:
    with pytest.raises(DataError, match="item 'i.* or pass --missing-images allow") as caught:
        case(f"13-broken-pictures/{name}")
    assert str(caught.value).count("item 'i") == broken
    allowed = case(f"13-broken-pictures/{name}", missing_images="allow").report
    assert allowed.images_broken == allowed.items_without_image == broken and allowed.items == 6
    dropped = case(f"13-broken-pictures/{name}", missing_images="drop").report
    assert (dropped.items, dropped.images_broken) == (6 - broken, broken)


@pytest.mark.parametrize("name", ["f-gif-named-jpg", "j-100-megapixels"])
def test_odd_pictures_are_read_without_a_word(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert case(f"13-broken-pictures/{name}").report.items_without_image == 0
    assert capfd.readouterr() == ("", "")


def test_more_than_ten_broken_pictures_are_counted(tmp_path: Path) -> None:
    items = [f"i{number:02d}" for number in range(12)]
    (tmp_path / "images").mkdir()
    for item in items:
        (tmp_path / "images" / f"{item}.jpg").touch()
    rows = "".join(f"u,{item},{place}\n" for place, item in enumerate(items))
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n" + rows)
    (tmp_path / "items.csv").write_text("item,text\n" + "".join(f"{i},x\n" for i in items))
    with pytest.raises(DataError, match="12 pictures .* and 2 more; mend them, or pass --missing"):
        read(tmp_path, filters=LEAST)


def test_composed_and_decomposed_names_are_one(
    tmp_path: Path, picture: Callable[..., Path]
) -> None:
    path = picture(tmp_path / (unicodedata.normalize("NFD", "café") + ".jpg"))
    matches = match_images(tmp_path, [unicodedata.normalize("NFC", "café")])
    assert matches.images[0] is not None and matches.images[0].path == path
    assert matches.counts["images_composed"] == 1


def test_lost_leading_zeros_are_found_where_they_fit_one_item(
    tmp_path: Path, picture: Callable[..., Path]
) -> None:
    for name in ("010/0108775015", "011/0110065001", "011/00110065001", "011/7"):
        picture(tmp_path / f"{name}.jpg")
    matches = match_images(tmp_path, ["108775015", "110065001", "07", "007"])
    assert [image and image.path.stem for image in matches.images] == [
        "0108775015",
        None,  # two files fit
        None,  # the file fits two items
        None,
    ]
    assert (matches.counts["images_padded"], matches.counts["images_unused"]) == (1, 3)


def test_a_folder_of_an_item_may_hold_its_one_picture(
    tmp_path: Path, picture: Callable[..., Path]
) -> None:
    picture(tmp_path / "mug" / "0.jpg")
    picture(tmp_path / "vase.jpg")
    (tmp_path / "mug" / "notes.txt").touch()
    matches = match_images(tmp_path, ["mug", "vase"])
    assert [image and image.path.name for image in matches.images] == ["0.jpg", "vase.jpg"]
    assert matches.counts["files_foreign"] == 1


def test_loops_of_links_end(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a" / "mug.jpg")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert match_images(tmp_path, ["mug"]).images[0] is not None


def test_linked_folders_are_followed(tmp_path: Path, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "elsewhere" / "mug.jpg")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").symlink_to(tmp_path / "elsewhere")
    assert match_images(tmp_path / "images", ["mug"]).images[0] is not None
