"""What a table of items says, whatever its layout."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.items import ImageSource, ItemTable
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.headers import nearest
from odmt_fast.data.readers.image_files import Matches, check_images, match_images
from odmt_fast.data.readers.options import ReaderOptions, flag
from odmt_fast.data.readers.records import faults_of_records, first_record, json_blocks
from odmt_fast.data.readers.values import TextJoiner, names


@dataclass(frozen=True)
class Catalogue:
    """A table of items as it was read.

    Attributes:
        path: the file.
        ids: item names.
        texts: their joined texts.
        pictures: values of the column of pictures; empty without one.
        counts: what a `Report` says of them, by its field.
    """

    path: Path
    ids: tuple[str, ...]
    texts: tuple[str | None, ...]
    pictures: tuple[str | None, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    def own_pictures(self) -> Matches:
        """The pictures whose paths the file gives.

        Raises:
            DataError: paths lead out of its folder: a table names pictures of its own, not any
                file.
        """
        folder = Path(os.path.normpath(self.path.parent))
        paths = [name and Path(os.path.normpath(folder / name)) for name in self.pictures]
        outside = [
            repr(name)[:200]
            for name, path in zip(self.pictures, paths, strict=True)
            if name and path and (Path(name).is_absolute() or not path.is_relative_to(folder))
        ]
        if outside:
            many = f"; {len(outside):,} do: {', '.join(outside[:10])}" if len(outside) > 1 else ""
            raise DataError(
                self.path.parent,
                f"picture {outside[0]} lies outside of this folder{many}; copy them into the "
                "folder",
            )
        found = [ImageSource(path) if path and path.is_file() else None for path in paths]
        absent = sum(
            bool(name) and image is None for name, image in zip(self.pictures, found, strict=True)
        )
        return Matches(tuple(found), {"images_absent": absent})


def catalogue_items(catalogue: Catalogue, images: Path | None) -> ItemTable:
    """All items of a table alone, their pictures found and decoded once.

    Args:
        catalogue: the table.
        images: see `match_images`; not looked at where the table names its pictures.

    Raises:
        DataError: a picture cannot be read, or belongs to no folder of the table.
    """
    own = catalogue.own_pictures() if catalogue.pictures else None
    matches = own or match_images(images, catalogue.ids)
    items = ItemTable(catalogue.ids, catalogue.texts, matches.images)
    check_images(items)
    return items


Texts = list[str | None]
"""A column of texts."""


def read_catalogue(
    blocks: Iterable[tuple[Any, list[Texts], Texts | None]],
    item: str,
    faults: Faults,
    options: ReaderOptions,
    *,
    watch_quotes: bool = True,
) -> Catalogue:
    """A table of items that arrives block by block.

    Args:
        blocks: of each block the column of the names, those of the texts, and that of the pictures'
            paths where there is one.
        item: name of the first, for errors.
        faults: of the file, by row.
        options: what becomes of missing names.
        watch_quotes: see `TextJoiner`.

    Raises:
        DataError: items are missing or listed twice.
    """
    joiner, n_read = TextJoiner(watch_quotes=watch_quotes), 0
    found: dict[str, str | None] = {}
    pictures: list[str | None] = []
    for column, parts, paths in blocks:
        ids = names(column, item, n_read, faults, refuse=options.missing_ids == "error").to_pylist()
        rows: Any = zip(*parts, strict=True) if parts else ((),) * len(ids)
        for row, (name, texts) in enumerate(zip(ids, rows, strict=True)):
            if name in found:
                faults.tell(n_read + row, f"item {name!r} is listed twice")
            elif name:
                found[name] = joiner.join(texts)
                if paths is not None:
                    pictures.append(paths[row])
        n_read += len(ids)
    faults.check()
    counts = {"items_nameless": n_read - len(found), **joiner.counts()}
    return Catalogue(faults.path, tuple(found), tuple(found.values()), tuple(pictures), counts)


def record_catalogue(
    path: Path,
    item: str,
    columns: tuple[str, ...],
    options: ReaderOptions,
    *,
    lists: Collection[str],
    between: str,
    loose: bool,
) -> Catalogue:
    """The items that lines of records list; those that repeat an item are counted.

    Args:
        path: the file, see `json_blocks`.
        item: field of the name.
        columns: fields of the texts.
        options: encoding, and what becomes of missing names.
        lists: fields that may be lists of texts.
        between: what joins the texts of a list.
        loose: see `json_blocks`.

    Raises:
        DataError: names are missing, a line is no record, or no line has one of the fields.
    """
    import pyarrow as pa

    encoding, refuse = options.encoding_of(path), options.missing_ids == "error"
    faults, joiner = faults_of_records(path, encoding), TextJoiner()
    kinds = {name: pa.list_(pa.string()) if name in lists else pa.string() for name in columns}
    fields = {item: pa.string(), **kinds}
    found: dict[str, str | None] = {}
    n_read, nameless, absent = 0, 0, list(columns)
    for block in json_blocks(path, fields, required=(), encoding=encoding, loose=loose):
        absent = [name for name in absent if block[name].null_count == block.num_rows]
        parts = [_joined(block[name].to_pylist(), between) for name in columns]
        rows: Any = zip(*parts, strict=True) if parts else ((),) * block.num_rows
        ids = names(block[item], item, n_read, faults, refuse=refuse)
        for name, texts in zip(ids.to_pylist(), rows, strict=True):
            nameless += not name
            if name and name not in found:
                found[name] = joiner.join(texts)
        n_read += block.num_rows
    faults.check()
    if absent and n_read:
        present = list(first_record(path, encoding))
        raise DataError(
            path,
            f"no line has the field {absent[0]!r}; the first has {', '.join(present)[:300]}"
            f"{nearest(absent[0], present)} ({flag('texts')})",
        )
    counts = {
        "repeated_items": n_read - nameless - len(found),
        "items_nameless": nameless,
        **joiner.counts(),
    }
    return Catalogue(path, tuple(found), tuple(found.values()), counts=counts)


def _joined(values: list[Any], between: str) -> list[str | None]:
    """Lists as one text each."""
    return [between.join(filter(None, v)) if isinstance(v, list) else v for v in values]
