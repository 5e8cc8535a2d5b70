"""The dataset every reader makes and every later room starts from."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from odmt_fast.data.items import ItemTable
from odmt_fast.data.report import Report
from odmt_fast.data.sequences import Sequences


@dataclass(frozen=True, eq=False)
class Interactions:
    """Users, the items they took, and what the items look like.

    Attributes:
        users: the user names of the source, distinct; user u owns ``sequences[u]``.
        items: the catalogue; row i is dense item i + 1. Every item occurs in a sequence.
        sequences: dense ids 1..len(items), oldest first; equal times keep the order of the source.
        report: what was read, and what was dropped and why.

    Raises:
        ValueError: users and sequences differ in number, or an id is beyond the catalogue.
    """

    users: tuple[str, ...]
    items: ItemTable
    sequences: Sequences
    report: Report

    def __post_init__(self) -> None:
        if len(self.users) != len(self.sequences):
            raise ValueError(f"{len(self.users)} users but {len(self.sequences)} sequences")
        self.sequences.counts(len(self.items))

    @property
    def n_users(self) -> int:
        """Number of users."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of items, padding excluded."""
        return len(self.items)

    def save(self, directory: str | PathLike[str]) -> Path:
        """Writes a prepared dataset to `directory` (made where absent) and returns its path.

        A dataset that lies there is replaced in one step: a reader sees the old one or the new
        one, and a run that dies on the way leaves the old one.
        """
        from odmt_fast.data import store  # imports torch, which reading data does not need

        contents = store.Contents(self.users, self.items, self.sequences, self.report)
        return store.save(contents, Path(directory))

    @classmethod
    def load(cls, directory: str | PathLike[str]) -> Interactions:
        """Reads a prepared dataset.

        Raises:
            DataError: it is absent, of another version, incomplete or damaged.
        """
        from odmt_fast.data import store

        return cls(*store.load(Path(directory)))
