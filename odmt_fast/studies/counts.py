"""Recommenders that only count: popularity, item co-occurrence, first-order Markov chain.

Each is fitted on the training sequences and scores all items for a batch of users, float64
[B, n_items + 1]. Where two items score alike, and that is the rule for counts, the more popular one
goes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast.data.sequences import Sequences
from odmt_fast.evaluation import UserBatch

# Far below any difference of counted scores, far above the rounding of float64.
_TIE_BREAK = 1e-9


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix [n, n] by rows.

    Attributes:
        offsets: int64 [n + 1].
        columns: int64 [nnz].
        values: float64 [nnz].
    """

    offsets: Tensor
    columns: Tensor
    values: Tensor

    @classmethod
    def count(cls, rows: NDArray[np.int64], columns: NDArray[np.int64], size: int) -> SparseRows:
        """How often each (row, column) occurs."""
        pairs, counts = np.unique(rows * size + columns, return_counts=True)
        offsets = np.zeros(size + 1, np.int64)
        np.cumsum(np.bincount(pairs // size, minlength=size), out=offsets[1:])
        return cls(
            torch.from_numpy(offsets),
            torch.from_numpy(pairs % size),
            torch.from_numpy(counts.astype(np.float64)),
        )

    @property
    def rows(self) -> Tensor:
        """int64 [nnz], the row of each entry."""
        return torch.arange(self.offsets.shape[0] - 1).repeat_interleave(self.offsets.diff())

    def sum_rows(self, rows: Tensor, owners: Tensor, n_owners: int) -> Tensor:
        """[n_owners, n] sums of the given rows (int64 [R]) by owner (int64 [R])."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        ends = lengths.cumsum(0)
        shift = torch.repeat_interleave(starts - (ends - lengths), lengths)
        entries = shift + torch.arange(shift.shape[0])
        sums = torch.zeros(n_owners, self.offsets.shape[0] - 1, dtype=self.values.dtype)
        sums.index_put_(
            (owners.repeat_interleave(lengths), self.columns[entries]),
            self.values[entries],
            accumulate=True,
        )
        return sums


class Popularity:
    """Everybody gets what is taken most.

    Args:
        train: training sequences.
        popularity: float64 [n_items + 1], share of each item in `train`.
    """

    def __init__(self, train: Sequences, popularity: NDArray[np.float64]) -> None:
        self.popularity = torch.from_numpy(popularity.copy())

    def score(self, users: UserBatch) -> Tensor:
        """[B, n_items + 1]."""
        return self.popularity.expand(users.targets.shape[0], -1)


class CoOccurrence:
    """Items whose users are the users of the inputs: the sum over inputs of their cosine.

    ``cos(i, j)`` = users of both / sqrt(users of i * users of j), the item-based collaborative
    filtering of Sarwar et al. (WWW 2001). Arguments as for `Popularity`.
    """

    def __init__(self, train: Sequences, popularity: NDArray[np.float64]) -> None:
        size = popularity.shape[0]
        users = train.user_of_item()
        distinct = np.unique(users * size + train.items)
        users, items = distinct // size, distinct % size
        # Every ordered pair of distinct items of a user.
        lengths = np.bincount(users, minlength=len(train))
        ends = np.cumsum(lengths)
        partners = lengths[users]
        first = np.repeat(items, partners)
        starts = np.repeat((ends - lengths)[users], partners)
        step = np.arange(starts.size) - np.repeat(np.cumsum(partners) - partners, partners)
        second = items[starts + step]
        other = first != second
        counts = SparseRows.count(first[other], second[other], size)
        takers = torch.from_numpy(np.bincount(items, minlength=size).astype(np.float64))
        norm = (takers[counts.rows] * takers[counts.columns]).sqrt()
        self.cosines = SparseRows(counts.offsets, counts.columns, counts.values / norm)
        self.popularity = torch.from_numpy(popularity.copy())

    def score(self, users: UserBatch) -> Tensor:
        """[B, n_items + 1]."""
        n_users = users.targets.shape[0]
        owners = torch.arange(n_users).repeat_interleave(users.offsets.diff())
        sums = self.cosines.sum_rows(users.items, owners, n_users)
        return sums + _TIE_BREAK * self.popularity


class Markov:
    """What followed the last input most often in training. Arguments as for `Popularity`."""

    def __init__(self, train: Sequences, popularity: NDArray[np.float64]) -> None:
        size = popularity.shape[0]
        items = train.items.astype(np.int64)
        inside = np.diff(train.user_of_item()) == 0
        self.counts = SparseRows.count(items[:-1][inside], items[1:][inside], size)
        self.popularity = torch.from_numpy(popularity.copy())

    def score(self, users: UserBatch) -> Tensor:
        """[B, n_items + 1]; counts of one row need no division to be compared."""
        n_users = users.targets.shape[0]
        last = users.items[users.offsets[1:] - 1]
        sums = self.counts.sum_rows(last, torch.arange(n_users), n_users)
        return sums + _TIE_BREAK * self.popularity
