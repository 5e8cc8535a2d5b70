"""The few shapes that the batches of a run are padded to.

A primitive, a kernel or a captured graph is made for shapes. The order of an epoch is a function of
(seed, epoch), so the sizes of a run's batches are known before it begins, and a few sets of
capacities hold nearly all of them. Padding is data: see `odmt_fast.batch.padding`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Cost = Callable[[Array, Array, Array], Array]
"""(rows [n], items [n], tokens [n, modalities]) -> FLOP of a training step [n]."""

MOST = 12
"""Sets of capacities a run has at most: 8 would pad small batches of short texts by 3.5 %."""

# A multiple that cuBLAS reads fast whatever the dtype: the loss has a column per item.
_ITEMS_MULTIPLE = 16


class Sizes(NamedTuple):
    """Sizes of a batch, or what it is padded to.

    Attributes:
        users: B.
        rows: M.
        items: U.
        history: H.
        tokens: P of each modality.
    """

    users: int
    rows: int
    items: int
    history: int
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What a dummy user or item may be.

    Attributes:
        steps: S, the most rows of a user; the least is 1.
        longest: the most tokens of an item, per modality; the least is 1.
    """

    steps: int
    longest: tuple[int, ...] = ()

    def allow(self, sizes: Sizes, capacity: Sizes) -> bool:
        """Whether whole dummies fill what `sizes` leave of `capacity`."""
        users, rows = capacity.users - sizes.users, capacity.rows - sizes.rows
        items, history = capacity.items - sizes.items, capacity.history - sizes.history
        return (
            items >= 0
            and 0 <= users <= rows <= users * self.steps
            and 0 <= history <= users * sizes.items
            and all(
                items <= whole - own <= items * longest
                for own, whole, longest in zip(
                    sizes.tokens, capacity.tokens, self.longest, strict=True
                )
            )
        )


@dataclass(frozen=True)
class Capacities:
    """What the batches of a run are padded to.

    Attributes:
        users: B of a batch that is padded; a shorter one, an epoch's last, is not.
        limits: of the dummies.
        buckets: at most `MOST`, cheapest first.
    """

    users: int
    limits: Limits
    buckets: tuple[Sizes, ...]

    def of(self, sizes: Sizes) -> Sizes | None:
        """What a batch of `sizes` is padded to; None where it runs as it is."""
        if sizes.users == self.users:
            for bucket in self.buckets:
                if self.limits.allow(sizes, bucket):
                    return bucket
        return None

    def to_json(self) -> list[list[int]]:
        """Numbers of each bucket, which tell whether two runs pad alike."""
        return [[*bucket[:4], *bucket.tokens] for bucket in self.buckets]

    @classmethod
    def choose(cls, sizes: Sequence[Sizes], limits: Limits, cost: Cost) -> Capacities:
        """The capacities that hold batches of `sizes` at the least cost in all.

        The batches are put in the order of their cost and cut into runs, each of which gets the
        smallest capacities that hold it. The cuts are found by dynamic programming, O(n^2).

        Args:
            sizes: of one batch or more, all of B users.
            limits: of the dummies.
            cost: of a step.
        """
        table = np.array([[*size[:4], *size.tokens] for size in sizes])
        table = table[np.argsort(_cost_of(table, cost), kind="stable")]
        n, runs = len(table), min(MOST, len(table))
        costs = np.full((n, n), np.inf)  # [i, j]: of the run i .. j, padded
        for first in range(n):
            padded = _cost_of(_smallest(table[first:], limits), cost)
            costs[first, first:] = padded * np.arange(1, n - first + 1)
        least, firsts = costs[0], [np.zeros(n, dtype=np.int64)]
        for _ in range(1, runs):
            # [i, j]: the last run is i .. j.
            paths = np.concatenate([[np.inf], least[:-1]])[:, None] + costs
            firsts.append(paths.argmin(axis=0))
            least = paths.min(axis=0)
        buckets, end = [], n
        for first_of in reversed(firsts):
            first = int(first_of[end - 1])
            users, rows, items, history, *tokens = _smallest(table[first:end], limits)[-1].tolist()
            buckets.append(Sizes(users, rows, items, history, tuple(tokens)))
            end = first
        # Rounding may make a run's capacities larger than those of a costlier run.
        table = np.array([[*bucket[:4], *bucket.tokens] for bucket in buckets])
        order = np.argsort(_cost_of(table, cost), kind="stable")
        return cls(sizes[0].users, limits, tuple(dict.fromkeys(buckets[i] for i in order)))


def _cost_of(table: Array, cost: Cost) -> Array:
    return cost(table[:, 1], table[:, 2], table[:, 4:])


def _smallest(table: Array, limits: Limits) -> Array:
    """[n, 4 + modalities]: the smallest capacities of the first 1, 2, .. n rows of `table`."""
    most, least = np.maximum.accumulate, np.minimum.accumulate
    users, rows, items, history = table[:, :4].T
    tokens, longest = table[:, 4:], np.array(limits.longest, dtype=np.int64)
    # k dummy users have k to k S rows, those that the least batch lacks of the most among them.
    dummies = np.maximum(1, -(-(most(rows) - least(rows)) // max(1, limits.steps - 1)))
    # A dummy item has 1 to L tokens. With u items the most tokens are u + spare, and the batch that
    # has the fewest for its items is filled if u (L - 1) >= spare + L U - P.
    spare = most(tokens - items[:, None], axis=0)
    lacking = most(items[:, None] * longest - tokens, axis=0)
    needed = -(-(spare + lacking) // np.maximum(1, longest - 1))
    whole = np.column_stack([most(items), needed]).max(axis=1)
    whole = -(-whole // _ITEMS_MULTIPLE) * _ITEMS_MULTIPLE
    return np.column_stack(
        [users + dummies, most(rows) + dummies, whole, most(history), whole[:, None] + spare]
    )
