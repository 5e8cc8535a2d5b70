"""Interactions from one file or from the three of a ready-made split, by user, part and time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.columns import NameColumn, Unknown, alike
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.tabular import TimeColumn, names
from odmt_fast.data.report import Report
from odmt_fast.data.sequences import Sequences


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
        path: the file.
        blocks: Arrow record batches with the columns that are asked for.
        line_of: line of a row (from 0).
        part: of a ready-made split, see `Interactions.parts`.
    """

    path: Path
    blocks: Iterable[Any]
    line_of: Callable[[int], int]
    part: int = 0


@dataclass(frozen=True)
class Catalogue:
    """What the file of the items says.

    Attributes:
        path: the file.
        ids: item names, distinct.
        texts: of the items.
        repeated: rows that repeat an item.
    """

    path: Path
    ids: tuple[str, ...]
    texts: tuple[str | None, ...]
    repeated: int = 0


def gather(
    sources: Sequence[Source],
    titles: Titles,
    catalogue: Catalogue | None,
    images: Path | None,
    report: Report,
    *,
    unknown: Unknown,
    min_rating: float = 0.0,
) -> Log:
    """Everything the files hold.

    Args:
        sources: the files; of several, each is a part of a ready-made split.
        titles: names of the columns.
        catalogue: the items; None takes those of the interactions, without texts.
        images: see `match_images`.
        report: kind and source of the reading; the counts are filled in.
        unknown: what to do with items the catalogue lacks.
        min_rating: interactions rated lower are left out and counted.

    Raises:
        DataError: a value is missing or malformed, or an item is unknown and `unknown` is "error".
    """
    gathered, n_read, n_low = _Gathered(), 0, 0
    times = None
    for source in sources:
        if titles.timestamp is not None:
            times = times or TimeColumn(source.path, titles.timestamp, source.line_of)
            times.path, times.line_of = source.path, source.line_of
        start = 0
        for block in source.blocks:
            users = names(block[titles.user], source.path, titles.user, start, source.line_of)
            items = names(block[titles.item], source.path, titles.item, start, source.line_of)
            when = np.zeros(len(users), np.int64)
            if times is not None:
                when = times.numbers(block[times.title], start)
            keep = np.ones(len(users), bool)
            if titles.rating is not None:
                keep = _ratings(block[titles.rating], source, titles.rating, start) >= min_rating
            users, items, when = users.filter(keep), items.filter(keep), when[keep]
            if catalogue is not None and unknown == "error":
                _check_known(items, catalogue, source, start + np.flatnonzero(keep))
            gathered.add(users, items, when, source.part)
            start += len(keep)
            n_low += int(len(keep) - keep.sum())
        n_read += start
    log = gathered.finish(catalogue, report)
    matches = match_images(images, log.items.ids)
    counts: dict[str, Any] = matches.counts
    return replace(
        log,
        items=replace(log.items, images=matches.images),
        report=replace(
            log.report,
            interactions_read=n_read,
            repeated_items=0 if catalogue is None else catalogue.repeated,
            ratings_low=n_low,
            **counts,
        ),
        parts=log.parts if len(sources) > 1 else None,
    )


@dataclass
class _Gathered:
    """The columns of all interactions, in the order of the files."""

    users: NameColumn = field(default_factory=NameColumn)
    items: NameColumn = field(default_factory=NameColumn)
    times: list[NDArray[Any]] = field(default_factory=list)
    parts: list[NDArray[np.int8]] = field(default_factory=list)

    def add(self, users: Any, items: Any, times: NDArray[Any], part: int) -> None:
        """Appends a block: two Arrow string arrays without nulls, and numbers that sort by time."""
        self.users.add(users)
        self.items.add(items)
        self.times.append(times)
        self.parts.append(np.full(len(times), part, np.int8))

    def finish(self, catalogue: Catalogue | None, report: Report) -> Log:
        """By user, part and time; equal ones keep the order of the source. Without pictures."""
        import pyarrow as pa
        import pyarrow.compute as pc

        user, user_names = self.users.finish()
        item, item_names = self.items.finish()
        time = np.concatenate(self.times or [np.empty(0, np.int64)])
        part = np.concatenate(self.parts or [np.empty(0, np.int8)])
        self.times, self.parts = [], []
        ids = tuple(item_names.to_pylist()) if catalogue is None else catalogue.ids
        rows = pc.index_in(item_names, value_set=pa.array(ids, pa.string()))
        item = rows.fill_null(-1).to_numpy()[item] + np.int32(1)
        order = np.lexsort((time, part, user))
        order = order[item[order] > 0]
        unknown = item.size - order.size
        user, item, time, part = user[order], item[order], time[order], part[order]
        same_user = user[1:] == user[:-1]
        equal_times = np.r_[False, same_user & (time[1:] == time[:-1])]
        alike = np.lexsort((item, time, user))
        repeated = np.zeros(user.size, bool)
        first, second = alike[:-1], alike[1:]
        same = (user[first] == user[second]) & (time[first] == time[second])
        repeated[second[same & (item[first] == item[second])]] = True
        texts = (None,) * len(ids) if catalogue is None else catalogue.texts
        return Log(
            users=tuple(user_names.to_pylist()),
            items=ItemTable(ids, texts, (None,) * len(ids)),
            sequences=Sequences.from_lengths(item, np.bincount(user, minlength=len(user_names))),
            repeated=repeated,
            parts=part,
            report=replace(
                report,
                interactions_unknown=unknown,
                interactions_repeated=int(repeated.sum()),
                times_equal=int((equal_times & ~repeated).sum()),
                held_out_of_time=int((same_user & (time[1:] < time[:-1])).sum()),
            ),
        )


def _ratings(column: Any, source: Source, title: str, start: int) -> NDArray[np.float64]:
    """The numbers of a column of ratings; a row without one has NaN, which is below all."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:
        pass
    for row, value in enumerate(column.to_pylist(), start):
        try:
            float(value if value is not None else "nan")
        except ValueError:
            raise DataError(
                source.path,
                f"column {title!r} is {str(value)[:200]!r}, which is not a number",
                line=source.line_of(row),
            ) from None
    return np.array([float("nan" if value is None else value) for value in column.to_pylist()])


def _check_known(items: Any, catalogue: Catalogue, source: Source, rows: NDArray[np.int64]) -> None:
    """Raises a DataError for the first item that the catalogue lacks; `rows` are the file's."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(items, value_set=pa.array(catalogue.ids, pa.string()))
    if not found.null_count:
        return
    at = int(np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))[0])
    name = items[at].as_py()
    raise DataError(
        source.path,
        f"item {name!r} is not in {catalogue.path.name}{alike(name, catalogue.ids)} "
        "(--option unknown_items=drop leaves such interactions out)",
        line=source.line_of(int(rows[at])),
    )
