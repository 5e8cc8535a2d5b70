"""The people of the demo shop: what they buy, one thing after the other.

A person likes one palette and one pattern (seen in pictures), one theme and one maker (read in
titles), and moves on to other ones now and then. What was bought last matters too: every kind has
companions (seen and read), and people stay in a hidden circle of items or go on to the circle that
follows it, which only purchases reveal. Each thing adds to the log-odds of an item, as does its
popularity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.demo.catalogue import (
    COMPANIONS,
    KINDS,
    MAKERS,
    PALETTES,
    PATTERNS,
    THEMES,
    Catalogue,
)
from odmt_fast.data.sequences import Sequences

# Log-odds.
PALETTE, PATTERN = 4.2, 1.5
THEME, MAKER = 3.4, 1.5
COMPANION, SAME_KIND = 0.9, -0.7
NEXT_CIRCLE, SAME_CIRCLE = 2.0, 3.0
POPULARITY = 0.35  # times -log(rank)
CHANGE_OF_TASTE = 0.05  # chance per purchase, for each of the four tastes
LEAST, MEAN_MORE, MOST = 7, 14.0, 40  # purchases of a person: least + geometric, capped


@dataclass(frozen=True, eq=False)
class Purchases:
    """What everybody bought.

    Attributes:
        sequences: dense item ids per person, oldest first; nobody buys an item twice.
        surprise: int32, like ``sequences.items``: how many items had better odds than the one
            bought. A model that knew everything would rank the purchase at 1 + this.
    """

    sequences: Sequences
    surprise: NDArray[np.int32]


def simulate(catalogue: Catalogue, n_users: int, rng: np.random.Generator) -> Purchases:
    """Lets `n_users` people shop.

    Raises:
        ValueError: there are too few items for the longest sequence.
    """
    n_items = len(catalogue)
    if n_items < 2 * MOST:
        raise ValueError(f"the demo needs at least {2 * MOST} items, got {n_items}")
    lengths = np.minimum(LEAST + rng.geometric(1 / MEAN_MORE, n_users), MOST)
    lengths = np.sort(lengths)[::-1]  # those who still shop are always the first people
    circles = int(catalogue.circle.max()) + 1
    following = np.roll(order := rng.permutation(circles), -1)[np.argsort(order)]
    kind_bonus = np.zeros((len(KINDS), len(KINDS)), np.float32)
    np.put_along_axis(kind_bonus, np.array(COMPANIONS), COMPANION, axis=1)
    np.fill_diagonal(kind_bonus, SAME_KIND)
    circle_bonus = np.zeros((circles, circles), np.float32)
    circle_bonus[np.arange(circles), following] = NEXT_CIRCLE
    np.fill_diagonal(circle_bonus, SAME_CIRCLE)
    appeal = (-POPULARITY * np.log1p(catalogue.rank)).astype(np.float32)

    tastes = [
        (catalogue.palette, len(PALETTES), PALETTE),
        (catalogue.pattern, len(PATTERNS), PATTERN),
        (catalogue.theme, len(THEMES), THEME),
        (catalogue.maker, len(MAKERS), MAKER),
    ]
    liked = [rng.integers(n_values, size=n_users) for _, n_values, _ in tastes]
    owned = np.zeros((n_users, n_items), bool)
    bought = np.zeros((n_users, int(lengths[0])), np.int32)
    surprise = np.zeros_like(bought)
    for step in range(bought.shape[1]):
        n = int((lengths > step).sum())
        odds = np.tile(appeal, (n, 1))
        for (values, n_values, weight), favourite in zip(tastes, liked, strict=True):
            moved = np.flatnonzero(rng.random(n) < CHANGE_OF_TASTE)
            favourite[moved] = rng.integers(n_values, size=moved.size)
            odds += np.float32(weight) * (values == favourite[:n, None])
        if step:
            last = bought[:n, step - 1]
            odds += np.take(kind_bonus[catalogue.kind[last]], catalogue.kind, axis=1)
            odds += np.take(circle_bonus[catalogue.circle[last]], catalogue.circle, axis=1)
        odds[owned[:n]] = -np.inf
        # The largest of log-odds plus Gumbel noise is a draw from their softmax. Float32 draws
        # of exactly 0 would buy an item whatever its odds.
        noise = -np.log(np.maximum(rng.standard_exponential(odds.shape, np.float32), 1e-7))
        chosen = (odds + noise).argmax(axis=1)
        people = np.arange(n)
        bought[:n, step] = chosen
        surprise[:n, step] = (odds > odds[people, chosen][:, None]).sum(axis=1)
        owned[people, chosen] = True

    people = rng.permutation(n_users)
    inside = (np.arange(bought.shape[1]) < lengths[:, None])[people]
    sequences = Sequences.from_lengths(bought[people][inside] + 1, lengths[people])
    return Purchases(sequences, surprise[people][inside])
