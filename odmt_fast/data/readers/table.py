"""Interactions and items as two tables, each a CSV (.csv, .tsv, .gz on top) or a Parquet file."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.items import ImageSource, ItemTable
from odmt_fast.data.readers.alone import lies_alone, read_alone
from odmt_fast.data.readers.columns import InteractionColumns, Ordered, Unknown
from odmt_fast.data.readers.gather import Titles
from odmt_fast.data.readers.image_files import Matches, match_images
from odmt_fast.data.readers.tabular import MISSING, TimeColumn, blocks, line_of_row, names, texts
from odmt_fast.data.report import Report

SUFFIXES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True)
class TableOptions:
    """Names of files and columns.

    Attributes:
        interactions: the file of interactions; None finds ``interactions.parquet|csv|tsv[.gz]``.
        items: the file of items; None finds ``items.parquet|csv|tsv[.gz]``, or goes without where
            the interactions are the only table of the folder.
        user: column of the user.
        item: column of the item, in the file of interactions.
        timestamp: column of the time: numbers, dates, or ISO 8601 texts.
        item_id: column of the item, in the file of items.
        texts: columns of the file of items whose texts are joined by ". ".
        image: column of the file of items with the path of a picture, relative to that file.
        images: a folder of <item>.jpg or an LMDB, where there is no image column; None takes
            ``images/`` if it is there.
        unknown_items: "error" refuses an interaction whose item is not in the file of items,
            "drop" leaves it out and counts it.
    """

    interactions: str | None = None
    items: str | None = None
    user: str = "user"
    item: str = "item"
    timestamp: str = "timestamp"
    item_id: str = "item"
    texts: tuple[str, ...] = ("text",)
    image: str | None = None
    images: str | None = None
    unknown_items: Unknown = "error"


def read_table(path: Path, options: TableOptions) -> Log:
    """Reads the two tables of the folder `path`.

    Raises:
        DataError: a file or a column is missing; a value is missing or malformed; an item is
            listed twice; an item is unknown and `options.unknown_items` is "error".
    """
    interactions = _find(path, options.interactions, "interactions")
    if options.items is None and lies_alone(interactions):
        titles = Titles(options.user, options.item, options.timestamp)
        return read_alone(interactions, titles, images_folder(path, options.images))
    items = _find(path, options.items, "items")
    ids, item_texts, pictures = read_items(items, options.item_id, options.texts, options.image)
    if options.image is not None:
        matches = Matches(tuple(_picture(items.parent, name) for name in pictures))
    else:
        matches = match_images(images_folder(path, options.images), ids)
    ordered, n_read = read_interactions(
        interactions,
        (options.user, options.item, options.timestamp),
        ids,
        table=items,
        unknown=options.unknown_items,
    )
    return Log(
        users=ordered.users,
        items=ItemTable(ids, item_texts, matches.images),
        sequences=ordered.sequences,
        repeated=ordered.repeated,
        report=Report(
            kind="table",
            source=str(path),
            interactions_read=n_read,
            **ordered.counts(),
            **matches.counts,
        ),
    )


def read_interactions(
    path: Path,
    columns: tuple[str, str, str],
    ids: tuple[str, ...],
    *,
    table: Path,
    unknown: Unknown,
) -> tuple[Ordered, int]:
    """Streams the columns user, item and time of `path`.

    Returns:
        The interactions by user and time (items as 1 + place in `ids`), and how many were read.

    Raises:
        DataError: see `read_table`.
    """
    user, item, time = columns
    line_of = partial(line_of_row, path)
    gathered, times, n_read = InteractionColumns(), TimeColumn(path, time, line_of), 0
    for block in blocks(path, columns):
        gathered.add(
            names(block[user], path, user, n_read, line_of),
            names(block[item], path, item, n_read, line_of),
            times.numbers(block[time], n_read),
        )
        n_read += block.num_rows
    ordered = gathered.finish(ids, path=path, table=table, unknown=unknown, line_of=line_of)
    return ordered, n_read


def read_items(
    path: Path, item_id: str, columns: tuple[str, ...], image: str | None = None
) -> tuple[tuple[str, ...], tuple[str | None, ...], tuple[str | None, ...]]:
    """Item names, their joined texts, and the values of the column `image` (none without one).

    Raises:
        DataError: the file or a column is missing, or an item is listed twice.
    """
    ids: dict[str, None] = {}
    joined: list[str | None] = []
    pictures: list[str | None] = []
    wanted = (item_id, *columns, *([image] if image else []))
    line_of = partial(line_of_row, path)
    for block in blocks(path, wanted, quoted_newlines=True):
        start = len(ids)
        found = names(block[item_id], path, item_id, start, line_of)
        for row, item in enumerate(found.to_pylist(), start):
            if item in ids:
                raise DataError(path, f"item {item!r} is listed twice", line=line_of(row))
            ids[item] = None
        parts = [texts(block[name], path, name).to_pylist() for name in columns]
        joined += [join_texts(values) for values in zip(*parts, strict=True)]
        if image:
            pictures += texts(block[image], path, image).to_pylist()
    return tuple(ids), tuple(joined), tuple(pictures)


def join_texts(parts: tuple[str | None, ...]) -> str | None:
    """The parts that say something, joined by ". "; None where none does.

    Blanks are collapsed and HTML entities decoded; what programs write for a missing value is none.
    """
    said = (part for part in parts if part and part.strip() not in MISSING)
    cleaned = (" ".join(html.unescape(part).split()) for part in said)
    return ". ".join(part for part in cleaned if part) or None


def images_folder(path: Path, name: str | None) -> Path | None:
    """The named image folder, or ``images/`` where there is one."""
    if name is not None:
        return path / name
    return path / "images" if (path / "images").is_dir() else None


def _picture(folder: Path, name: str | None) -> ImageSource | None:
    """The picture of a path column; a file that is not there is a missing picture.

    Raises:
        DataError: the path leads out of `folder`: a table names pictures of its own, not any file.
    """
    if not name:
        return None
    path = Path(os.path.normpath(folder / name))
    if Path(name).is_absolute() or not path.is_relative_to(os.path.normpath(folder)):
        raise DataError(
            folder, f"picture {name[:200]!r} lies outside of this folder; copy it into the folder"
        )
    return ImageSource(path) if path.is_file() else None


def _find(folder: Path, name: str | None, stem: str) -> Path:
    if name is not None:
        return folder / name
    for suffix in SUFFIXES:
        if (folder / f"{stem}{suffix}").exists():
            return folder / f"{stem}{suffix}"
    raise DataError(folder, f"no {stem} here; expected {stem}.parquet, .csv or .tsv")
