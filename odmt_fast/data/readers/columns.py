"""Interactions that arrive as blocks of columns: names become codes, codes become sequences.

Shared by the readers of CSV, Parquet and JSON lines. Memory: 4 + 4 + 8 bytes an interaction plus
the distinct names.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.options import Rule
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
    """Interactions by user and time.

    Attributes:
        users: names, in order of first appearance.
        sequences: items of each user in time order, equal times in the order of the source.
        unknown: interactions left out because their item is not in the catalogue.
        nameless: interactions left out because user or item is missing.
        repeated: bool [N], of the entries of ``sequences.items``: an earlier row has the same user,
            item and time.
        equal_times: interactions at the time of another of their user, exact repeats apart: the
            order of the source decides between them.
    """

    users: tuple[str, ...]
    sequences: Sequences
    unknown: int
    nameless: int
    repeated: NDArray[np.bool_]
    equal_times: int

    def counts(self) -> dict[str, int]:
        """As the fields of a report."""
        return {
            "interactions_unknown": self.unknown,
            "interactions_nameless": self.nameless,
            "interactions_repeated": int(self.repeated.sum()),
            "times_equal": self.equal_times,
        }


@dataclass
class InteractionColumns:
    """The columns user, item and time of all interactions, in the order of the source."""

    users: NameColumn = field(default_factory=NameColumn)
    items: NameColumn = field(default_factory=NameColumn)
    times: list[NDArray[Any]] = field(default_factory=list)

    def add(self, users: Any, items: Any, times: NDArray[Any]) -> None:
        """Appends a block: Arrow string arrays ("" = missing), and numbers that sort by time."""
        self.users.add(users)
        self.items.add(items)
        self.times.append(times)

    def finish(
        self, catalogue: tuple[str, ...], *, table: Path, unknown: Rule, faults: Faults
    ) -> Ordered:
        """The interactions by user and time, those without user or item left out.

        Args:
            catalogue: item names; an item gets 1 + its place here.
            table: the file of the items, for errors.
            unknown: what to do with items the catalogue lacks.
            faults: of the file of interactions, by row.

        Raises:
            DataError: there are faults; items that are not in the catalogue are some where
                `unknown` is "error".
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        user, user_names = self.users.finish()
        item, item_names = self.items.finish()
        time = np.concatenate(self.times) if self.times else np.empty(0, np.int64)
        self.times = []
        named = _filled(user_names)[user] & _filled(item_names)[item]
        rows = pc.index_in(item_names, value_set=pa.array(catalogue, pa.string()))
        dense = rows.fill_null(-1).to_numpy()[item] + np.int32(1)
        kept = named & (dense > 0)
        strange = np.flatnonzero(named & (dense == 0))
        if strange.size and unknown == "error":
            lacking = item_names.filter(pc.and_(rows.is_null(), pc.not_equal(item_names, "")))
            faults.add(
                strange.tolist(),
                lambda row: unknown_item(item_names[int(item[row])].as_py(), catalogue, table.name),
                f"{_listed(lacking)}; {DROP_UNKNOWN}",
            )
        faults.check()
        if not kept.all():
            user, dense, time = user[kept], dense[kept], time[kept]
        user, user_names = _without_blank(user, user_names)
        order = np.lexsort((time, user))  # stable: equal keys keep the order of the source
        user, dense, time = user[order], dense[order], time[order]
        tied = np.zeros(user.size, bool)
        tied[1:] = (user[1:] == user[:-1]) & (time[1:] == time[:-1])
        repeated = _repeats(tied, dense)
        lengths = np.bincount(user, minlength=len(user_names))
        return Ordered(
            users=tuple(user_names.to_pylist()),
            sequences=Sequences.from_lengths(dense, lengths),
            unknown=int(strange.size),
            nameless=int((~named).sum()),
            repeated=repeated,
            equal_times=int((tied & ~repeated).sum()),
        )


def _filled(names: Any) -> NDArray[np.bool_]:
    """Which of the distinct names are not ""."""
    import pyarrow.compute as pc

    return np.asarray(pc.not_equal(names, "").to_numpy(zero_copy_only=False), bool)


def _without_blank(codes: NDArray[np.int32], names: Any) -> tuple[NDArray[np.int32], Any]:
    """Codes and names without the name "", which no code may stand for."""
    blank = np.flatnonzero(~_filled(names))
    if not blank.size:
        return codes, names
    (at,) = blank.tolist()
    return codes - (codes > at), names.filter(_filled(names))


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
