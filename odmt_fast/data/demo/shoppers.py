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

from odmt_fast.data.demo.catalogue import KINDS, THINGS, Catalogue
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

    The catalogue must have twice as many items as a person buys at `MOST`.
    """
    n_items = len(catalogue.ids)
    lengths = np.minimum(LEAST + rng.geometric(1 / MEAN_MORE, n_users), MOST)
    lengths = np.sort(lengths)[::-1]  # those who still shop are always the first people
    circles = int(catalogue.circle.max()) + 1
    following = np.roll(order := rng.permutation(circles), -1)[np.argsort(order)]
    kind_bonus = np.zeros((len(KINDS), len(KINDS)), np.float32)
    for kind, (_, companions) in enumerate(THINGS.values()):
        kind_bonus[kind, [KINDS.index(name) for name in companions]] = COMPANION
    np.fill_diagonal(kind_bonus, SAME_KIND)
    circle_bonus = np.zeros((circles, circles), np.float32)
    circle_bonus[np.arange(circles), following] = NEXT_CIRCLE
    np.fill_diagonal(circle_bonus, SAME_CIRCLE)
    appeal = (-POPULARITY * np.log1p(catalogue.rank)).astype(np.float32)

    tastes = (
        *((catalogue.palette, PALETTE), (catalogue.pattern, PATTERN)),
        *((catalogue.theme, THEME), (catalogue.maker, MAKER)),
    )
    liked = [rng.integers(values.max() + 1, size=n_users) for values, _ in tastes]
    owned = np.zeros((n_users, n_items), bool)
    bought = np.zeros((n_users, int(lengths[0])), np.int32)
    surprise = np.zeros_like(bought)
    for step in range(bought.shape[1]):
        n = int((lengths > step).sum())
        odds = np.tile(appeal, (n, 1))
        for (values, weight), favourite in zip(tastes, liked, strict=True):
            moved = np.flatnonzero(rng.random(n) < CHANGE_OF_TASTE)
            favourite[moved] = rng.integers(values.max() + 1, size=moved.size)
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
