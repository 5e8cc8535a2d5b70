"""Interactions from one file or from the three of a ready-made split, by user, part and time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.catalogue import Catalogue
from odmt_fast.data.readers.columns import DROP_UNKNOWN, NameColumn, unknown_item
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.options import ReaderOptions
from odmt_fast.data.readers.times import TimeColumn, TimeUnit
from odmt_fast.data.readers.values import names
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
        blocks: Arrow record batches with the columns that are asked for.
        faults: of the file, by row.
        part: of a ready-made split, see `Interactions.parts`.
    """

    blocks: Iterable[Any]
    faults: Faults
    part: int = 0


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
        images: see `match_images`.
        report: kind and source of the reading; the counts are filled in.
        options: what becomes of unknown items and missing names.
        min_rating: interactions rated lower are left out and counted.
        time_unit: see `TimeColumn`.

    Raises:
        DataError: values are missing or malformed, or items are unknown and not to be dropped.
    """
    gathered, n_read, n_low, n_nameless = _Gathered(), 0, 0, 0
    times = None
    for source in sources:
        if titles.timestamp is not None:
            times = times or TimeColumn(titles.timestamp, source.faults, time_unit)
            times.faults = source.faults
        named = partial(names, faults=source.faults, refuse=options.missing_ids == "error")
        start = 0
        for block in source.blocks:
            users = named(block[titles.user], titles.user, start)
            items = named(block[titles.item], titles.item, start)
            when = np.zeros(len(users), np.int64)
            if times is not None:
                when = times.numbers(block[times.title], start)
            filled = _filled(users) & _filled(items)
            keep = filled
            if titles.rating is not None:
                rated = _ratings(block[titles.rating], source.faults, titles.rating, start)
                keep = filled & (rated >= min_rating)
            users, items, when = users.filter(keep), items.filter(keep), when[keep]
            if catalogue is not None and options.unknown_items == "error":
                _check_known(items, catalogue, source.faults, start + np.flatnonzero(keep))
            gathered.add(users, items, when, source.part)
            start += len(keep)
            n_nameless += int(len(keep) - filled.sum())
            n_low += int(filled.sum() - keep.sum())
        source.faults.check()
        n_read += start
    log = gathered.finish(catalogue, report)
    matches = match_images(images, log.items.ids)
    counts: dict[str, Any] = {**({} if catalogue is None else catalogue.counts), **matches.counts}
    return replace(
        log,
        items=replace(log.items, images=matches.images),
        report=replace(
            log.report,
            interactions_read=n_read,
            interactions_nameless=n_nameless,
            ratings_low=n_low,
            times_rounded=0 if times is None else times.finish(),
            **counts,
        ),
        parts=log.parts if len(sources) > 1 else None,
    )


def _filled(column: Any) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    return np.asarray(pc.not_equal(column, "").to_numpy(zero_copy_only=False), bool)


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


def _ratings(column: Any, faults: Faults, title: str, start: int) -> NDArray[np.float64]:
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
            faults.tell(start + row, told)
    return numbers


def _check_known(items: Any, catalogue: Catalogue, faults: Faults, rows: NDArray[np.int64]) -> None:
    """Adds a fault for every item that the catalogue lacks; `rows` are the file's."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(items, value_set=pa.array(catalogue.ids, pa.string()))
    strange = np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))
    at = dict(zip(rows[strange].tolist(), strange.tolist(), strict=True))
    faults.add(
        at,
        lambda row: unknown_item(items[at[row]].as_py(), catalogue.ids, catalogue.path.name),
        DROP_UNKNOWN,
    )
