"""Interactions and items as two tables, each a CSV (.csv, .tsv, .gz on top) or a Parquet file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.alone import lies_alone, read_alone
from odmt_fast.data.readers.catalogue import Catalogue
from odmt_fast.data.readers.columns import InteractionColumns, Ordered
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.gather import Titles
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.options import TabularOptions, flag
from odmt_fast.data.readers.tabular import blocks, lines_of_rows
from odmt_fast.data.readers.times import TimeColumn
from odmt_fast.data.readers.values import TextJoiner, names, texts
from odmt_fast.data.report import Report

SUFFIXES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")


@dataclass(frozen=True, kw_only=True)
class TableOptions(TabularOptions):
    """Names of files and columns.

    Attributes:
        interactions: the file of interactions; None finds ``interactions.parquet|csv|tsv[.gz]``.
        items: the file of items; None finds ``items.parquet|csv|tsv[.gz]``, or goes without where
            the interactions are the only table of the folder.
        user: column of the user.
        item: column of the item.
        timestamp: column of the time: numbers, dates, or ISO 8601 texts.
        item_id: column of the item in the file of items; None = as in the other file.
        texts: columns of the file of items whose texts are joined by ". ".
        image: column of the file of items with the path of a picture, relative to that file.
        images: a folder of <item>.jpg or an LMDB, where there is no image column; None takes
            ``images/`` if it is there.
    """

    interactions: str | None = None
    items: str | None = None
    user: str = "user"
    item: str = "item"
    timestamp: str = "timestamp"
    item_id: str | None = None
    texts: tuple[str, ...] = ("text",)
    image: str | None = None
    images: str | None = None


def read_table(path: Path, options: TableOptions) -> Log:
    """Reads the two tables of the folder `path`.

    Raises:
        DataError: a file or a column is missing; a value is missing or malformed; an item is
            listed twice; an item is unknown and `options.unknown_items` is "error".
        ValueError: options of CSV files are given and there is none.
    """
    interactions = _find(path, options.interactions, "interactions")
    if options.items is None and lies_alone(interactions):
        options.check_files(interactions)
        _refuse_idle(options, interactions)
        titles = Titles(options.user, options.item, options.timestamp)
        return read_alone(interactions, titles, images_folder(path, options.images), options)
    items = _find(path, options.items, "items")
    options.check_files(interactions, items)
    _refuse_idle(options, interactions, items)
    catalogue = read_items(
        items, options.item_id or options.item, options.texts, options.image, options=options
    )
    if options.image is not None:
        matches = catalogue.own_pictures()
    else:
        matches = match_images(images_folder(path, options.images), catalogue.ids)
    ordered, counts = read_interactions(
        interactions,
        (options.user, options.item, options.timestamp),
        catalogue.ids,
        table=items,
        options=options,
    )
    return Log(
        users=ordered.users,
        items=ItemTable(catalogue.ids, catalogue.texts, matches.images),
        sequences=ordered.sequences,
        repeated=ordered.repeated,
        report=Report(
            kind="table", source=str(path), **counts, **catalogue.counts, **matches.counts
        ),
    )


def read_interactions(
    path: Path,
    columns: tuple[str, str, str],
    ids: tuple[str, ...],
    *,
    table: Path,
    options: TabularOptions,
) -> tuple[Ordered, dict[str, int]]:
    """Streams the columns user, item and time of `path`.

    Returns:
        The interactions by user and time (items as 1 + place in `ids`), and the counts of a report.

    Raises:
        DataError: see `read_table`.
    """
    user, item, time = columns
    faults = Faults(path, lambda rows: lines_of_rows(path, rows, options.form))
    named = partial(names, faults=faults, refuse=options.missing_ids == "error")
    times = TimeColumn(time, faults, options.time_unit)
    gathered, n_read = InteractionColumns(), 0
    flags = {user: flag("user"), item: flag("item"), time: flag("timestamp")}
    for block in blocks(path, columns, form=options.form, flags=flags):
        gathered.add(
            named(block[user], user, n_read),
            named(block[item], item, n_read),
            times.numbers(block[time], n_read),
        )
        n_read += block.num_rows
    ordered = gathered.finish(ids, table=table, unknown=options.unknown_items, faults=faults)
    counts = {"interactions_read": n_read, "times_rounded": times.finish(), **ordered.counts()}
    return ordered, counts


def read_items(
    path: Path,
    item_id: str,
    columns: tuple[str, ...],
    image: str | None = None,
    *,
    options: TabularOptions,
) -> Catalogue:
    """Item names, their joined texts, and the values of the column `image`.

    Raises:
        DataError: the file or a column is missing, or items are missing or listed twice.
    """
    form = options.form
    ids: dict[str, None] = {}
    joined: list[str | None] = []
    pictures: list[str | None] = []
    wanted = (item_id, *columns, *([image] if image else []))
    faults = Faults(path, lambda rows: lines_of_rows(path, rows, form))
    tells_quotes = path.suffix == ".parquet" or form.quotes_of(path)
    joiner = TextJoiner(watch_quotes=not tells_quotes)
    flags = {item_id: flag("item_id"), **dict.fromkeys(columns, flag("texts"))}
    if image:
        flags[image] = flag("image")
    n_read = 0
    for block in blocks(path, wanted, quoted_newlines=True, form=form, flags=flags):
        found = names(
            block[item_id], item_id, n_read, faults, refuse=options.missing_ids == "error"
        ).to_pylist()
        parts = [texts(block[name], path, name).to_pylist() for name in columns]
        rows: Any = zip(*parts, strict=True) if parts else ((),) * len(found)
        shown = texts(block[image], path, image).to_pylist() if image else found
        for row, (item, values, picture) in enumerate(zip(found, rows, shown, strict=True), n_read):
            if not item:
                continue
            if item in ids:
                faults.tell(row, f"item {item!r} is listed twice")
            ids[item] = None
            joined.append(joiner.join(values))
            if image:
                pictures.append(picture)
        n_read += block.num_rows
    faults.check()
    counts = {"items_nameless": n_read - len(ids), **joiner.counts()}
    return Catalogue(path, tuple(ids), tuple(joined), tuple(pictures), counts)


def images_folder(path: Path, name: str | None) -> Path | None:
    """The named image folder, or ``images/`` where there is one."""
    if name is not None:
        return path / name
    return path / "images" if (path / "images").is_dir() else None


def _refuse_idle(options: TableOptions, *files: Path) -> None:
    """Raises a ValueError where options of CSV files are given and all files are Parquet."""
    given = [flag(name) for name in ("delimiter", "quotes") if getattr(options, name) is not None]
    if given and all(file.suffix == ".parquet" for file in files):
        raise ValueError(f"{given[0]} is of CSV files, and these are Parquet; leave it out")


def _find(folder: Path, name: str | None, stem: str) -> Path:
    if name is not None:
        return folder / name
    for suffix in SUFFIXES:
        if (folder / f"{stem}{suffix}").exists():
            return folder / f"{stem}{suffix}"
    raise DataError(folder, f"no {stem} here; expected {stem}.parquet, .csv or .tsv")
