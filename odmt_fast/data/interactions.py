"""The dataset every reader makes and every later room starts from."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.items import ItemTable
from odmt_fast.data.report import Report
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import Split, leave_one_out, parts_of, ready_made


@dataclass(frozen=True, eq=False)
class Interactions:
    """Users, the items they took, and what the items look like.

    Attributes:
        users: the user names of the source, distinct; user u owns ``sequences[u]``.
        items: the catalogue; row i is dense item i + 1. Every item occurs in a sequence,
            but those that nobody bought (`Filters.keep_unbought`) or was let buy (`HoldOut`).
        sequences: dense ids 1..len(items), oldest first; equal times keep the order of the source.
        report: what was read, and what was dropped and why.
        parts: int8 [N], of the entries of ``sequences.items``, where it was split already (by the
            source or by `HoldOut`): 0 training, 1 validation, 2 test, in this order within a user.
            None is to be split leave-one-out.

    Raises:
        ValueError: users and sequences differ in number, an id is beyond the catalogue, or `parts`
            are not so.
    """

    users: tuple[str, ...]
    items: ItemTable
    sequences: Sequences
    report: Report
    parts: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        if len(self.users) != len(self.sequences):
            raise ValueError(f"{len(self.users)} users but {len(self.sequences)} sequences")
        self.sequences.counts(len(self.items))
        if self.parts is not None:
            object.__setattr__(self, "parts", parts_of(self.sequences, self.parts))

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items, padding excluded."""
        return len(self.items)

    def split(self, max_seq_len: int, *, full_history: bool = True) -> Split:
        """What is trained on, validated and tested: as the source was split, or leave-one-out.

        Arguments and errors are those of `odmt_fast.data.split.leave_one_out` and `ready_made`.
        """
        if self.parts is None:
            return leave_one_out(
                self.sequences, self.n_items, max_seq_len, full_history=full_history
            )
        return ready_made(
            self.sequences, self.parts, self.n_items, max_seq_len, full_history=full_history
        )

    def save(self, directory: str | PathLike[str]) -> Path:
        """Writes a prepared dataset to `directory` (made where absent) and returns its path.

        A dataset that lies there is replaced in one step: a reader sees the old one or the new
        one, and a run that dies on the way leaves the old one.
        """
        from odmt_fast.data import store  # imports torch, which reading data does not need

        contents = store.Contents(self.users, self.items, self.sequences, self.report, self.parts)
        return store.save(contents, Path(directory))

    @classmethod
    def load(cls, directory: str | PathLike[str]) -> Interactions:
        """Reads a prepared dataset.

        Raises:
            DataError: it is absent, of another version, incomplete or damaged.
        """
        from odmt_fast.data import store

        return cls(*store.load(Path(directory)))
