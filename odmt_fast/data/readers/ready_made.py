"""A split made already: three tables with a header, named train, valid and test.

A name says its part between dots, dashes or underscores (``Beauty.train.csv``, ``test.parquet``;
valid, val, dev or validation). The items are a fourth table, or those of the interactions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.readers.gather import Titles, gather, tabular_source
from odmt_fast.data.readers.options import TabularOptions
from odmt_fast.data.readers.table import SUFFIXES, images_folder, read_items
from odmt_fast.data.report import Report

PARTS = ({"train", "training"}, {"valid", "val", "dev", "validation"}, {"test"})


@dataclass(frozen=True, kw_only=True)
class ReadyMadeOptions(TabularOptions):
    """Names of files and columns; the defaults are those of Amazon Reviews 2023.

    Attributes:
        user: column of the user.
        item: column of the item, in all files.
        timestamp: column of the time: numbers, dates, or ISO 8601 texts.
        rating: column that `min_rating` looks at.
        min_rating: interactions rated lower are left out and counted; 0 leaves none out.
        items: the file of items; None finds ``items.parquet|csv|tsv[.gz]`` if it is there.
        texts: columns of the file of items whose texts are joined by ". ".
        images: a folder of <item>.jpg or an LMDB; None takes ``images/`` if it is there.
    """

    user: str = "user_id"
    item: str = "parent_asin"
    timestamp: str = "timestamp"
    rating: str = "rating"
    min_rating: float = 0.0
    items: str | None = None
    texts: tuple[str, ...] = ("title",)
    images: str | None = None


def fits(folder: Path) -> bool:
    """Whether `folder` looks like this layout."""
    return part_files(tables(folder)) is not None


def part_files(files: Iterable[Path]) -> tuple[Path, Path, Path] | None:
    """Of `files` those of training, validation and test, where there is one of each."""
    found: list[list[Path]] = [[], [], []]
    for path in files:
        words = set(re.split(r"[._-]", path.name.lower()))
        for part, known in enumerate(PARTS):
            if words & known:
                found[part].append(path)
    if any(len(part) != 1 for part in found):
        return None
    return found[0][0], found[1][0], found[2][0]


def tables(folder: Path) -> list[Path]:
    """The tables of `folder`."""
    found = (path for path in folder.iterdir() if path.name[0] not in "._")
    return sorted(path for path in found if path.name.endswith(SUFFIXES))


def read_ready_made(path: Path, options: ReadyMadeOptions) -> Log:
    """Reads the folder `path`.

    Raises:
        DataError: a file or a column is missing; a value is missing or malformed; an item is
            listed twice; an item is unknown and `options.unknown_items` is "error".
    """
    parts = part_files(tables(path))
    if parts is None:
        shown = ", ".join(file.name for file in tables(path)) or "none"
        raise DataError(
            path,
            "expected one table of each of train, valid and test by its name "
            f"({', '.join(SUFFIXES)}), found {shown}",
        )
    items = _items(path, options.items)
    options.check_files(*parts, *([items] if items else []))
    catalogue = None
    if items is not None:
        catalogue = read_items(items, options.item, options.texts, options=options)
    rating = options.rating if options.min_rating > 0 else None
    titles = Titles(options.user, options.item, options.timestamp, rating)
    return gather(
        [tabular_source(file, titles, options, part) for part, file in enumerate(parts)],
        titles,
        catalogue,
        images_folder(path, options.images),
        Report(kind=f"split{'' if items else ', no items'}", source=str(path)),
        options,
        min_rating=options.min_rating,
        time_unit=options.time_unit,
    )


def _items(folder: Path, name: str | None) -> Path | None:
    if name is not None:
        return folder / name
    places = (folder / f"items{suffix}" for suffix in SUFFIXES)
    return next((place for place in places if place.exists()), None)
