"""What a table of items says, whatever its layout."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.items import ImageSource
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.image_files import Matches
from odmt_fast.data.readers.options import ReaderOptions
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


def read_catalogue(
    path: Path,
    blocks: Iterable[tuple[Any, list[list[str | None]]]],
    item: str,
    faults: Faults,
    options: ReaderOptions,
) -> Catalogue:
    """A table of items that arrives block by block.

    Args:
        path: the file.
        blocks: the column of the names, and the columns of the texts, of each block.
        item: name of the first, for errors.
        faults: of the file, by row.
        options: what becomes of missing names.

    Raises:
        DataError: items are missing or listed twice.
    """
    joiner, found, n_read = TextJoiner(watch_quotes=True), dict[str, str | None](), 0
    for column, parts in blocks:
        ids = names(column, item, n_read, faults, refuse=options.missing_ids == "error")
        rows: Any = zip(*parts, strict=True) if parts else ((),) * len(ids)
        for row, (name, texts) in enumerate(zip(ids.to_pylist(), rows, strict=True), n_read):
            if name in found:
                faults.tell(row, f"item {name!r} is listed twice")
            elif name:
                found[name] = joiner.join(texts)
        n_read += len(ids)
    faults.check()
    counts = {"items_nameless": n_read - len(found), **joiner.counts()}
    return Catalogue(path, tuple(found), tuple(found.values()), counts=counts)
