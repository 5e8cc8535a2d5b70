"""The order in which an epoch visits the users, a pure function of (seed, epoch)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from odmt_fast.randomness import stream


@dataclass(frozen=True)
class UserSampler:
    """A fresh permutation of the users for every epoch, cut into batches.

    Nothing is stored between batches, so a run that stops after any step goes on with the next
    one. The last batch of an epoch holds what is left over, as officially (``drop_last=False``).

    Attributes:
        users: int64 [n], the users to visit.
        batch_size: users of a batch.
        seed: with the epoch, decides the permutation.
    """

    users: NDArray[np.int64]
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.users) // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The users of `epoch` in their order, int64 [n].

        Raw draws of a bit generator are ranked instead of calling ``Generator.permutation``: NumPy
        promises the former never to change, so an old run can be resumed under a new NumPy.
        """
        bits = np.random.PCG64(stream(self.seed, "order", epoch))
        draws = bits.random_raw(len(self.users))
        return self.users[np.argsort(draws, kind="stable")]

    def size(self, step: int) -> int:
        """Users of batch `step`."""
        return min(self.batch_size, len(self.users) - step * self.batch_size)

    def batch(self, order: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """The users of batch `step` (from 0) of an epoch's `order`."""
        return order[step * self.batch_size : (step + 1) * self.batch_size]
