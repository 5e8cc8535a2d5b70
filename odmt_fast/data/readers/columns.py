"""Interactions that arrive as blocks of columns: names become codes, codes become sequences.

Shared by the readers of CSV, Parquet and JSON lines. Memory: 4 + 4 + 8 bytes an interaction plus
the distinct names.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.sequences import Sequences

DROP_UNKNOWN = "--unknown-items drop leaves such items out and counts them"
BLOCKS_BEFORE_MERGE = 32


@dataclass
class NameColumn:
    """A column of names that grows block by block; equal names share a code.

    Codes count from 0 in order of first appearance.
    """

    blocks: list[Any] = field(default_factory=list)

    def add(self, names: Any) -> None:
        """Appends an Arrow string array without nulls."""
        self.blocks.append(names.dictionary_encode())
        if len(self.blocks) > BLOCKS_BEFORE_MERGE:
            self.blocks = [self._merged()]

    def finish(self) -> tuple[NDArray[np.int32], Any]:
        """int32 [N] codes, and the distinct names (an Arrow string array)."""
        import pyarrow as pa

        if not self.blocks:
            return np.empty(0, np.int32), pa.array([], pa.string())
        merged = self._merged()
        self.blocks = []
        return merged.indices.to_numpy(), merged.dictionary

    def _merged(self) -> Any:
        import pyarrow as pa

        chunks = pa.chunked_array(self.blocks).unify_dictionaries().chunks
        codes = pa.concat_arrays([chunk.indices for chunk in chunks])
        return pa.DictionaryArray.from_arrays(codes, chunks[-1].dictionary)


@dataclass(frozen=True, eq=False)
class Ordered:
    """Interactions by user, part of a split and time.

    Attributes:
        users: names, in order of first appearance.
        ids: item names; an item of `sequences` is 1 + its place here.
        sequences: items of each user in order, equal times in the order of the source.
        parts: int8 [N], of the entries of ``sequences.items``, see `Interactions.parts`.
        times: [N], likewise, numbers that sort by time.
        repeated: bool [N], likewise: an earlier row has the same user, item and time.
        counts: as the fields of a report.
    """

    users: tuple[str, ...]
    ids: tuple[str, ...]
    sequences: Sequences
    parts: NDArray[np.int8]
    times: NDArray[Any]
    repeated: NDArray[np.bool_]
    counts: dict[str, int]


@dataclass
class InteractionColumns:
    """The columns of all interactions, in the order of the source."""

    users: NameColumn = field(default_factory=NameColumn)
    items: NameColumn = field(default_factory=NameColumn)
    times: list[NDArray[Any]] = field(default_factory=list)
    parts: list[NDArray[np.int8]] = field(default_factory=list)

    def add(self, users: Any, items: Any, times: NDArray[Any], part: int = 0) -> None:
        """Appends a block: Arrow string arrays ("" = missing), and numbers that sort by time."""
        self.users.add(users)
        self.items.add(items)
        self.times.append(times)
        self.parts.append(np.full(len(times), part, np.int8))

    def finish(self, catalogue: tuple[str, ...] | None) -> Ordered:
        """The interactions in order, without those that lack a user or a known item.

        Args:
            catalogue: item names; None takes those that occur.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        user, user_names = self.users.finish()
        item, item_names = self.items.finish()
        time = np.concatenate(self.times or [np.empty(0, np.int64)])
        part = np.concatenate(self.parts or [np.empty(0, np.int8)])
        self.times, self.parts = [], []
        named = filled(user_names)[user] & filled(item_names)[item]
        if catalogue is None:
            catalogue = tuple(item_names.filter(filled(item_names)).to_pylist())
        rows = pc.index_in(item_names, value_set=pa.array(catalogue, pa.string()))
        item = rows.fill_null(-1).to_numpy()[item] + np.int32(1)
        kept = named & (item > 0)
        unknown = int((named & (item == 0)).sum())
        if not kept.all():
            user, item, time, part = user[kept], item[kept], time[kept], part[kept]
        user, user_names = _without_blank(user, user_names)
        by_time = np.lexsort((time, user))  # stable: equal keys keep the order of the source
        repeated = np.empty(user.size, bool)
        repeated[by_time] = _repeats(_tied(user[by_time], time[by_time]), item[by_time])
        order = np.lexsort((time, part, user)) if part.any() else by_time
        user, item, time, repeated = user[order], item[order], time[order], repeated[order]
        tied = _tied(user, time)
        backwards = (user[1:] == user[:-1]) & (time[1:] < time[:-1])
        return Ordered(
            users=tuple(user_names.to_pylist()),
            ids=catalogue,
            sequences=Sequences.from_lengths(item, np.bincount(user, minlength=len(user_names))),
            parts=part[order],
            times=time,
            repeated=repeated,
            counts={
                "interactions_unknown": unknown,
                "interactions_nameless": int((~named).sum()),
                "interactions_repeated": int(repeated.sum()),
                "times_equal": int((tied & ~repeated).sum()),
                "held_out_of_time": int(backwards.sum()),
            },
        )


@dataclass
class UnknownItems:
    """Gathers the items of one file that a catalogue lacks.

    Attributes:
        catalogue: item names.
        table: name of the file that lists them, for errors.
    """

    catalogue: tuple[str, ...]
    table: str
    _names: NameColumn = field(default_factory=NameColumn)
    _rows: list[NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        import pyarrow as pa

        self._known = pa.array(self.catalogue, pa.string())

    def add(self, items: Any, rows: NDArray[np.int64]) -> None:
        """Looks at a block of names that stand in `rows` of the file."""
        import pyarrow.compute as pc

        strange = pc.is_null(pc.index_in(items, value_set=self._known))
        self._names.add(items.filter(strange))
        self._rows.append(rows[strange.to_numpy(zero_copy_only=False)])

    def tell(self, faults: Faults) -> None:
        """Makes faults of them, after the last block."""
        codes, names = self._names.finish()
        if not codes.size:
            return
        rows = np.concatenate(self._rows)
        faults.add(
            rows.tolist(),
            lambda row: unknown_item(
                names[int(codes[np.searchsorted(rows, row)])].as_py(), self.catalogue, self.table
            ),
            f"{_listed(names)}; {DROP_UNKNOWN}",
        )


def _tied(user: NDArray[np.int32], time: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows have user and time of the one before."""
    tied = np.zeros(user.size, bool)
    tied[1:] = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
    return tied


def filled(names: Any) -> NDArray[np.bool_]:
    """Which names are not ""."""
    import pyarrow.compute as pc

    return np.asarray(pc.not_equal(names, "").to_numpy(zero_copy_only=False), bool)


def _without_blank(codes: NDArray[np.int32], names: Any) -> tuple[NDArray[np.int32], Any]:
    """Codes and names without the name "", which no code may stand for."""
    blank = np.flatnonzero(~filled(names))
    if not blank.size:
        return codes, names
    (at,) = blank.tolist()
    return codes - (codes > at), names.filter(filled(names))


def _listed(names: Any) -> str:
    """The unknown items: how many, and the first ten."""
    if len(names) == 1:
        return "1 unknown item"
    shown = ", ".join(repr(name)[:80] for name in names[:10].to_pylist())
    rest = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return f"{len(names):,} unknown items: {shown}{rest}"


def unknown_item(name: str, catalogue: tuple[str, ...], table: str) -> str:
    """What to say of an item that is not in the table of items."""
    return f"item {name!r} is not in {table}{alike(name, catalogue)}"


def alike(name: str, catalogue: tuple[str, ...]) -> str:
    """A hint at the item that differs from `name` only in how it is written."""
    bare = _bare(name)
    found = next((item for item in catalogue if _bare(item) == bare), None)
    return f"; {found!r} is, which differs only in how it is written" if found else ""


def _bare(name: str) -> str:
    """`name` without case, blanks, invisible letters, forms of Unicode, leading zeros and ".0"."""
    composed = unicodedata.normalize("NFKC", name).casefold()
    seen = "".join(c for c in composed if unicodedata.category(c) not in ("Cf", "Zs", "Cc"))
    return seen.removesuffix(".0").lstrip("0")


def _repeats(tied: NDArray[np.bool_], items: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which rows have the item of an earlier row of their group.

    Args:
        tied: bool [N], whether a row belongs to the group (user and time) of the one before.
        items: int32 [N].
    """
    repeated = np.zeros(tied.size, bool)
    if not tied.any():
        return repeated
    group = np.cumsum(~tied)
    order = np.lexsort((items, group))  # stable: the earliest row of equal ones comes first
    same = (group[order][1:] == group[order][:-1]) & (items[order][1:] == items[order][:-1])
    repeated[order[1:][same]] = True
    return repeated
