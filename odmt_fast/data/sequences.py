"""Ragged sequences of dense item ids, one per user, in two flat arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def read_only(values: ArrayLike, dtype: Any) -> NDArray[Any]:
    """`values` as a contiguous array of `dtype` that refuses writes; copied only where needed."""
    array = np.ascontiguousarray(values, dtype=dtype).view()
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Sequences:
    """The items of each user, oldest first.

    Attributes:
        items: int32 [N], user-major, oldest first; dense ids from 1 up (0 is padding and never
            occurs here). Read-only.
        offsets: int64 [n_users + 1]; user u owns ``items[offsets[u]:offsets[u + 1]]``. Read-only.

    Raises:
        ValueError: the offsets do not start at 0, decrease, or do not end at N; an id is below 1.
    """

    items: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", read_only(self.items, np.int32))
        object.__setattr__(self, "offsets", read_only(self.offsets, np.int64))
        items, offsets = self.items, self.offsets
        if offsets.ndim != 1 or not offsets.size or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
            raise ValueError("offsets must be [n_users + 1], start at 0 and never decrease")
        if items.ndim != 1 or offsets[-1] != items.size:
            raise ValueError(
                f"offsets must end at the number of items, {items.size}, not at {offsets[-1]}"
            )
        if items.size and items.min() < 1:
            raise ValueError(f"items must be dense ids from 1 up, got {items.min()}")

    def __len__(self) -> int:
        """Number of users."""
        return self.offsets.size - 1

    def __getitem__(self, user: int) -> NDArray[np.int32]:
        """Items of `user` (0-based, negative counts from the end), a read-only view."""
        user = range(len(self))[user]
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [n_users], items of each user."""
        return np.diff(self.offsets)

    @classmethod
    def from_lists(cls, users: Iterable[Sequence[int]]) -> Sequences:
        """From one list of dense ids per user."""
        lists = [np.asarray(items, dtype=np.int32) for items in users]
        flat = np.concatenate(lists) if lists else np.empty(0, np.int32)
        return cls.from_lengths(flat, np.array([len(items) for items in lists], np.int64))

    @classmethod
    def from_lengths(cls, items: ArrayLike, lengths: ArrayLike) -> Sequences:
        """From the flat items and the number each user owns."""
        lengths = np.asarray(lengths, np.int64)
        offsets = np.zeros(lengths.size + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(np.asarray(items, np.int32), offsets)

    def tail(self, n: int) -> Sequences:
        """The last `n` items of each user (all of them where there are fewer)."""
        return self.cut(-n, None) if n else self.cut(0, 0)

    def cut(self, start: int | None, stop: int | None) -> Sequences:
        """``u[start:stop]`` of every user u, with Python's meaning of negative and open bounds."""

        def bound(value: int | None, default: NDArray[np.int64]) -> NDArray[np.int64]:
            if value is None:
                return default
            return np.clip(
                lengths + value if value < 0 else np.full_like(lengths, value), 0, lengths
            )

        lengths = self.lengths
        first = bound(start, np.zeros_like(lengths))
        kept = np.maximum(bound(stop, lengths) - first, 0)
        ends = np.cumsum(kept)
        shift = np.repeat(self.offsets[:-1] + first - (ends - kept), kept)
        return Sequences.from_lengths(self.items[shift + np.arange(shift.size)], kept)

    def part(self, start: int, count: int) -> Sequences:
        """`count` users from `start` on (fewer where there are not so many), as views."""
        bounds = self.offsets[start : start + count + 1]
        return Sequences(self.items[bounds[0] : bounds[-1]], bounds - bounds[0])

    def joined(self, other: Sequences) -> Sequences:
        """Every user's items followed by those of the same user of `other`.

        Raises:
            ValueError: the two have not as many users.
        """
        if len(self) != len(other):
            raise ValueError(f"there are {len(self)} users here and {len(other)} there")
        ends = self.offsets[1:].repeat(other.lengths)
        items = np.insert(self.items, ends, other.items)
        return Sequences.from_lengths(items, self.lengths + other.lengths)

    def select(self, keep: NDArray[np.bool_]) -> Sequences:
        """The users where `keep` (bool [n_users]) holds."""
        lengths = self.lengths
        return Sequences.from_lengths(self.items[np.repeat(keep, lengths)], lengths[keep])

    def keep(self, entries: NDArray[np.bool_]) -> Sequences:
        """The items where `entries` (bool [N]) holds; users may become empty."""
        kept = np.bincount(self.user_of_item()[entries], minlength=len(self))
        return Sequences.from_lengths(self.items[entries], kept)

    def user_of_item(self) -> NDArray[np.int64]:
        """int64 [N], the user (0-based) every entry of `items` belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def counts(self, n_items: int) -> NDArray[np.int64]:
        """int64 [n_items + 1], occurrences of every dense id; entry 0 is 0.

        Raises:
            ValueError: an id is above `n_items`.
        """
        if self.items.size and self.items.max() > n_items:
            raise ValueError(f"items holds id {self.items.max()}, beyond n_items={n_items}")
        return np.bincount(self.items, minlength=n_items + 1).astype(np.int64)
