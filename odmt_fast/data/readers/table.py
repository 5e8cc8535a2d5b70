"""Interactions and items as two tables, each a CSV (.csv, .tsv, .gz on top) or a Parquet file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.readers.alone import lies_alone, read_alone
from odmt_fast.data.readers.catalogue import Catalogue, read_catalogue
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.gather import Titles, gather, tabular_source
from odmt_fast.data.readers.options import TabularOptions, flag
from odmt_fast.data.readers.tabular import blocks, lines_of_rows
from odmt_fast.data.readers.values import texts
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
    titles = Titles(options.user, options.item, options.timestamp)
    return gather(
        [tabular_source(interactions, titles, options)],
        titles,
        catalogue,
        None if options.image else images_folder(path, options.images),
        Report(kind="table", source=str(path)),
        options,
        time_unit=options.time_unit,
    )


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
    wanted = (item_id, *columns, *([image] if image else []))
    flags = {item_id: flag("item_id"), **dict.fromkeys(columns, flag("texts"))}
    if image:
        flags[image] = flag("image")
    return items_of_blocks(
        blocks(path, wanted, quoted_newlines=True, form=form, flags=flags),
        item_id,
        columns,
        image,
        Faults(path, lambda rows: lines_of_rows(path, rows, form)),
        options,
        watch_quotes=not (path.suffix == ".parquet" or form.quotes_of(path)),
    )


def items_of_blocks(
    found: Iterable[Any],
    item_id: str,
    columns: tuple[str, ...],
    image: str | None,
    faults: Faults,
    options: TabularOptions,
    *,
    watch_quotes: bool = False,
) -> Catalogue:
    """`read_items` of Arrow record batches, from wherever they come.

    Raises:
        DataError: items are missing or listed twice, or a column is no text.
    """

    def said(block: Any, name: str) -> list[str | None]:
        found: list[str | None] = texts(block[name], faults.path, name).to_pylist()
        return found

    return read_catalogue(
        (
            (
                block[item_id],
                [said(block, name) for name in columns],
                said(block, image) if image else None,
            )
            for block in found
        ),
        item_id,
        faults,
        options,
        watch_quotes=watch_quotes,
    )


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
