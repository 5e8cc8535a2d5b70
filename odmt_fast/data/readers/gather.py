"""Interactions from one file, or from the three of a ready-made split, and their items as a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.catalogue import Catalogue
from odmt_fast.data.readers.columns import InteractionColumns, UnknownItems, filled
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.options import ReaderOptions, TabularOptions, flag
from odmt_fast.data.readers.tabular import blocks, lines_of_rows
from odmt_fast.data.readers.times import TimeColumn, TimeUnit
from odmt_fast.data.readers.values import names
from odmt_fast.data.report import Report


@dataclass(frozen=True)
class Titles:
    """Names of the columns.

    Attributes:
        user: the user.
        item: the item.
        timestamp: the time; None keeps the order of the file.
        rating: a number; None where none is asked for.
    """

    user: str
    item: str
    timestamp: str | None
    rating: str | None = None


@dataclass(frozen=True)
class Source:
    """One file of interactions.

    Attributes:
        blocks: Arrow record batches with the columns that are asked for.
        faults: of the file, by row.
        part: of a ready-made split, see `Interactions.parts`.
    """

    blocks: Iterable[Any]
    faults: Faults
    part: int = 0


def tabular_source(path: Path, titles: Titles, options: TabularOptions, part: int = 0) -> Source:
    """The interactions of a CSV or Parquet file."""
    named = {"user": titles.user, "item": titles.item, "timestamp": titles.timestamp}
    flags = {title: flag(name) for name, title in named.items() if title}
    columns = [title for title in (*named.values(), titles.rating) if title]
    faults = Faults(path, lambda rows: lines_of_rows(path, rows, options.form))
    return Source(blocks(path, columns, form=options.form, flags=flags), faults, part)


def gather(
    sources: Sequence[Source],
    titles: Titles,
    catalogue: Catalogue | None,
    images: Path | None,
    report: Report,
    options: ReaderOptions,
    *,
    min_rating: float = 0.0,
    time_unit: TimeUnit = "auto",
) -> Log:
    """Everything the files hold.

    Args:
        sources: the files; of several, each is a part of a ready-made split.
        titles: names of the columns.
        catalogue: the items; None takes those of the interactions, without texts.
        images: see `match_images`; not looked at where the catalogue names its pictures.
        report: kind and source of the reading; the counts are filled in.
        options: what becomes of unknown items and missing names.
        min_rating: interactions rated lower are left out and counted.
        time_unit: see `TimeColumn`.

    Raises:
        DataError: values are missing or malformed, or items are unknown and not to be dropped.
    """
    gathered, n_read, n_low = InteractionColumns(), 0, 0
    times = None
    for source in sources:
        faults, start, unknown = source.faults, 0, None
        if titles.timestamp is not None:
            times = times or TimeColumn(titles.timestamp, faults, time_unit)
            times.faults = faults
        if catalogue is not None and options.unknown_items == "error":
            unknown = UnknownItems(catalogue.ids, catalogue.path.name)
        read = partial(names, faults=faults, refuse=options.missing_ids == "error")
        for block in source.blocks:
            users = read(block[titles.user], titles.user, start)
            items = read(block[titles.item], titles.item, start)
            when = np.zeros(len(users), np.int64)
            if times is not None:
                when = times.numbers(block[times.title], start)
            rows = np.arange(start, start + len(users))
            start += len(users)
            named = filled(users) & filled(items)
            if titles.rating is not None:
                rated = _ratings(block[titles.rating], faults, titles.rating, rows)
                keep = ~named | (rated >= min_rating)
                n_low += int((~keep).sum())
                users, items, when = users.filter(keep), items.filter(keep), when[keep]
                rows, named = rows[keep], named[keep]
            if unknown is not None:
                unknown.add(items.filter(named), rows[named])
            gathered.add(users, items, when, source.part)
        if unknown is not None:
            unknown.tell(faults)
        faults.check()
        n_read += start
    ordered = gathered.finish(None if catalogue is None else catalogue.ids)
    texts: tuple[str | None, ...] = (None,) * len(ordered.ids)
    counts: dict[str, Any] = dict(ordered.counts)
    matches = None
    if catalogue is not None:
        texts, matches = catalogue.texts, catalogue.own_pictures() if catalogue.pictures else None
        counts |= catalogue.counts
    matches = matches or match_images(images, ordered.ids)
    counts |= matches.counts
    return Log(
        users=ordered.users,
        items=ItemTable(ordered.ids, texts, matches.images),
        sequences=ordered.sequences,
        repeated=ordered.repeated,
        parts=ordered.parts if len(sources) > 1 else None,
        times=None if times is None else ordered.times,
        report=replace(
            report,
            interactions_read=n_read,
            ratings_low=n_low,
            times_rounded=0 if times is None else times.finish(),
            **counts,
        ),
    )


def _ratings(
    column: Any, faults: Faults, title: str, rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The numbers of a column of ratings; a row without one has NaN, which is below all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        pass
    numbers = np.full(len(column), np.nan)
    for row, value in enumerate(column.to_pylist()):
        try:
            numbers[row] = float("nan" if value is None else value)
        except ValueError:
            told = f"column {title!r} is {str(value)[:200]!r}, which is not a number"
            faults.tell(int(rows[row]), told)
    return numbers
