"""Interactions that arrive as blocks of columns: names become codes, codes become sequences.

Shared by the readers of CSV, Parquet and JSON lines. Memory: 4 + 4 + 8 bytes an interaction plus
the distinct names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError
from odmt_fast.data.sequences import Sequences

Unknown = Literal["error", "drop"]
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


@dataclass
class InteractionColumns:
    """The columns user, item and time of all interactions, in the order of the source."""

    users: NameColumn = field(default_factory=NameColumn)
    items: NameColumn = field(default_factory=NameColumn)
    times: list[NDArray[Any]] = field(default_factory=list)

    def add(self, users: Any, items: Any, times: NDArray[Any]) -> None:
        """Appends a block: two Arrow string arrays without nulls, and numbers that sort by time."""
        self.users.add(users)
        self.items.add(items)
        self.times.append(times)

    def finish(
        self,
        catalogue: tuple[str, ...],
        *,
        path: Path,
        table: Path,
        unknown: Unknown,
        line_of: Callable[[int], int],
    ) -> tuple[tuple[str, ...], Sequences, int]:
        """Users, their items in time order, and how many interactions had an unknown item.

        Interactions at the same time keep the order of the source; users come in order of first
        appearance.

        Args:
            catalogue: item names; an item gets 1 + its place here.
            path: the file of the interactions, for errors.
            table: the file of the items, for errors.
            unknown: what to do with items the catalogue lacks.
            line_of: line of the n-th interaction (from 0).

        Raises:
            DataError: an item is not in the catalogue and `unknown` is "error".
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        user, user_names = self.users.finish()
        item, item_names = self.items.finish()
        time = np.concatenate(self.times) if self.times else np.empty(0, np.int64)
        self.times = []
        rows = pc.index_in(item_names, value_set=pa.array(catalogue, pa.string()))
        dense = rows.fill_null(-1).to_numpy()[item] + np.int32(1)
        known = dense > 0
        n_unknown = int(known.size - known.sum())
        if n_unknown and unknown == "error":
            at = int(np.flatnonzero(~known)[0])
            name = item_names[int(item[at])].as_py()
            raise DataError(path, f"item {name!r} is not in {table.name}", line=line_of(at))
        if n_unknown:
            user, dense, time = user[known], dense[known], time[known]
        order = np.lexsort((time, user))  # stable: equal keys keep the order of the source
        lengths = np.bincount(user, minlength=len(user_names))
        sequences = Sequences.from_lengths(dense[order], lengths)
        return tuple(user_names.to_pylist()), sequences, n_unknown
