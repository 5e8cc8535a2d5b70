"""Finding the picture of every item, and checking that the pictures can be decoded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from odmt_fast.data.errors import DataError
from odmt_fast.data.items import ImageSource, ItemTable
from odmt_fast.data.readers.lmdb_images import list_keys

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def find_images(
    where: Path | None, items: Sequence[str]
) -> tuple[tuple[ImageSource | None, ...], int]:
    """The picture of every item.

    Args:
        where: a folder of ``<item>.jpg`` (or jpeg, png, webp), at any depth; an official LMDB; or
            None where there are no pictures.
        items: the item names.

    Returns:
        One source per item, None where it has no picture, and the number of pictures that belong to
        no item.

    Raises:
        DataError: `where` is neither a folder nor an LMDB, or an item has two pictures.
    """
    if where is None:
        return (None,) * len(items), 0
    if not where.exists():
        raise DataError(where, "there is no image folder or LMDB here")
    if where.is_file() or (where / "data.mdb").is_file():
        keys = list_keys(where)
        chosen = [_lmdb_key(item, keys) for item in items]
        found = [ImageSource(where, key) if key is not None else None for key in chosen]
        return tuple(found), len(keys) - len({key for key in chosen if key is not None})
    files = _image_files(where)
    images = tuple(
        ImageSource(path) if (path := files.get(item)) is not None else None for item in items
    )
    return images, len(files) - sum(image is not None for image in images)


def check_images(items: ItemTable) -> None:
    """Decodes every picture of `items`, JPEGs at a fraction of their size.

    Raises:
        DataError: the first picture (in item order) that cannot be decoded.
    """
    sources = [source for source in items.images if source is not None]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(_decode, sources):
            pass


def _decode(source: ImageSource) -> None:
    source.load(longest=32)


def _lmdb_key(item: str, keys: set[str]) -> str | None:
    """The key of `item`: its name, or the number in it (``v00042`` is kept as ``42``)."""
    if item in keys:
        return item
    number = item.replace("v", "")
    if number.isdecimal() and str(int(number)) in keys:
        return str(int(number))
    return None


def _image_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in _walk(folder):
        stem, suffix = os.path.splitext(path.name)
        if suffix.lower() not in SUFFIXES:
            continue
        if stem in files:
            raise DataError(path, f"item {stem!r} has a second image, {files[stem]}; keep one")
        files[stem] = path
    return files


def _walk(folder: Path) -> Iterable[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield Path(root, name)
