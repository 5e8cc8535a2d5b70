"""Finding the picture of every item, and checking that the pictures can be decoded."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from odmt_fast.data.errors import DataError
from odmt_fast.data.items import ImageSource, ItemTable
from odmt_fast.data.pictures import LIMITS, PictureLimits
from odmt_fast.data.readers.lmdb_images import list_keys

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".gif",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".avif",
)
_LEFTOVERS = ("thumbs.db", "desktop.ini", "__macosx")
_NAMING = "pictures are named <item>.jpg (or another suffix), one an item"
_NAMED = 10

T = TypeVar("T")
MissingImages = Literal["refuse", "allow", "drop"]


@dataclass(frozen=True)
class Matches:
    """The pictures of a catalogue.

    Attributes:
        images: one source per item, None where it has no picture.
        counts: what a `Report` says of them, by its field.
    """

    images: tuple[ImageSource | None, ...]
    counts: dict[str, int] = field(default_factory=dict)


def find_images(
    where: Path | None, items: Sequence[str]
) -> tuple[tuple[ImageSource | None, ...], int]:
    """`match_images`, and the number of pictures that belong to no item alone."""
    matches = match_images(where, items)
    return matches.images, matches.counts.get("images_unused", 0)


def match_images(where: Path | None, items: Sequence[str]) -> Matches:
    """The picture of every item.

    A picture is an item's when its name, or its name without suffix, is the item's: as it is, in
    Unicode's composed form, or but for leading zeros where that fits one item and one picture. A
    folder with the item's name may hold its one picture under any name.

    Args:
        where: a folder of ``<item>.jpg`` (or another of `SUFFIXES`, or none), at any depth, links
            followed; an official LMDB; or None where there are no pictures.
        items: the item names.

    Raises:
        DataError: `where` is neither a folder nor an LMDB, or an item has two pictures.
    """
    if where is None:
        return Matches((None,) * len(items))
    if not where.exists():
        raise DataError(where, "there is no image folder or LMDB here")
    if where.is_file() or (where / "data.mdb").is_file():
        keys = list_keys(where)
        chosen = [_lmdb_key(item, keys) for item in items]
        found = [ImageSource(where, key) if key is not None else None for key in chosen]
        unused = len(keys) - len({key for key in chosen if key is not None})
        return Matches(tuple(found), {"images_unused": unused})
    return _match_files(where, items)


def _match_files(folder: Path, items: Sequence[str]) -> Matches:
    exact, composed, bare = set(items), _unambiguous(_composed, items), _unambiguous(_bare, items)
    counts = dict.fromkeys(
        ("images_unused", "images_composed", "images_padded", "files_foreign"), 0
    )
    files: dict[str, Path] = {}
    twice: list[tuple[str, Path]] = []
    later: list[Path] = []
    for path in _walk(folder):
        names = _names(path)
        item = next((name for name in names if name in exact), None)
        if item is None:
            item = next((composed[n] for n in map(_composed, names) if n in composed), None)
            counts["images_composed"] += item is not None
        if item is None and path.parent != folder:
            item = composed.get(_composed(path.parent.name)) if _is_picture(path) else None
        if item is not None:
            if item in files:
                twice.append((item, path))
            files.setdefault(item, path)
        elif _is_picture(path):
            later.append(path)
        else:
            counts["files_foreign"] += 1
    _refuse_second(files, twice)
    padded = _unambiguous(lambda path: _bare(path.stem), later)
    for path in later:
        item = bare.get(_bare(path.stem))
        if item is not None and item not in files and padded.get(_bare(path.stem)) == path:
            files[item] = path
            counts["images_padded"] += 1
        else:
            counts["images_unused"] += 1
    images = tuple(ImageSource(files[item]) if item in files else None for item in items)
    return Matches(images, counts)


def _refuse_second(files: dict[str, Path], twice: list[tuple[str, Path]]) -> None:
    """Raises a DataError where items have several pictures: `files`, and those in `twice`."""
    if not twice:
        return
    told = [f"item {item!r} has a second image, {files[item]}" for item, _ in twice[:_NAMED]]
    if len(twice) > 1:
        others = zip(told[1:], twice[1:], strict=False)
        shown = "; ".join(f"{path}: {reason}" for reason, (_, path) in others)
        more = f"; and {len(twice) - _NAMED:,} more" if len(twice) > _NAMED else ""
        told[0] += f"; {len(twice):,} do: {shown}{more}"
    raise DataError(twice[0][1], f"{told[0]}; keep one: {_NAMING}")


def _names(path: Path) -> tuple[str, ...]:
    """What item the file may be named after: without suffix first."""
    return (path.stem, path.name) if _is_picture(path) else (path.name,)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _bare(name: str) -> str:
    """The name of a number without its leading zeros; other names give one that none has."""
    return name.lstrip("0") if name.isdecimal() else ""


def _unambiguous(key: Callable[[T], str], values: Iterable[T]) -> dict[str, T]:
    """The values whose key no other one has, by key; the empty key is none."""
    found: dict[str, list[T]] = {}
    for value in values:
        found.setdefault(key(value), []).append(value)
    return {name: group[0] for name, group in found.items() if name and len(group) == 1}


def check_missing_images(rule: str) -> None:
    """Raises a ValueError for a rule that is none of `MissingImages`."""
    if rule not in get_args(MissingImages):
        raise ValueError(
            f"--missing-images {rule} does not exist; use {', '.join(get_args(MissingImages))}"
        )


def broken_images(items: ItemTable, limits: PictureLimits = LIMITS) -> dict[int, DataError]:
    """Decodes every picture of `items`, JPEGs at a fraction of their size.

    Returns:
        Row of the item -> what is wrong, of those that cannot be read, in order.
    """
    rows = [row for row, source in enumerate(items.images) if source is not None]

    def fault(row: int) -> DataError | None:
        source = items.images[row]
        assert source is not None
        try:
            source.load(longest=32, limits=limits)
        except DataError as error:
            return error
        return None

    # Pillow warns of odd metadata, with the path of its own source, once a process.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        faults = zip(rows, pool.map(fault, rows), strict=True)
        return {row: reason for row, reason in faults if reason is not None}


def without_images(items: ItemTable, rows: Iterable[int]) -> ItemTable:
    """`items`, the pictures of the rows (0-based) taken as missing."""
    gone = set(rows)
    images = (None if row in gone else image for row, image in enumerate(items.images))
    return ItemTable(items.ids, items.texts, tuple(images))


def check_images(items: ItemTable, limits: PictureLimits = LIMITS) -> None:
    """Refuses pictures that cannot be decoded.

    Raises:
        DataError: names the first ten of them, and how many there are.
    """
    broken = broken_images(items, limits)
    if not broken:
        return
    way_on = (
        "mend them, or pass --missing-images allow (items without picture) or drop (the items go)"
    )
    shown = list(broken.items())[:_NAMED]
    if len(broken) == 1:
        [(row, error)] = shown
        raise DataError(error.file, f"item {items.ids[row]!r}: {error.reason}; {way_on}")
    named = "; ".join(f"item {items.ids[row]!r}: {error}" for row, error in shown)
    more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    raise DataError(
        shown[0][1].file.parent, f"{len(broken)} pictures cannot be read: {named}{more}; {way_on}"
    )


def _lmdb_key(item: str, keys: set[str]) -> str | None:
    """The key of `item`: its name, or the number in it (``v00042`` is kept as ``42``)."""
    if item in keys:
        return item
    number = item.replace("v", "")
    if number.isdecimal() and str(int(number)) in keys:
        return str(int(number))
    return None


def _walk(folder: Path) -> Iterator[Path]:
    """Files below `folder`, sorted, links followed once each, leftovers of systems left out."""
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a loop of links
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_leftover(name))
        yield from (Path(root, name) for name in sorted(names) if not _is_leftover(name))


def _is_leftover(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEFTOVERS
