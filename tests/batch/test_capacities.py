"""Capacities: they hold what they were chosen by, cost little, and are the best cuts there are."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odmt_fast.batch.capacities import MOST, Array, Capacities, Limits, Sizes

STEPS, LONGEST = 12, (30, 50)
LIMITS = Limits(STEPS, LONGEST)


def cost(rows: Array, items: Array, tokens: Array) -> Array:
    """Roughly a step's: tokens weigh most."""
    return 80.0 * tokens.sum(axis=1) + 330.0 * items + 430.0 * rows


def cost_of(size: Sizes) -> float:
    rows, items = np.array([size.rows]), np.array([size.items])
    return float(cost(rows, items, np.array([size.tokens]))[0])


def batches(n: int, users: int = 64, longest: tuple[int, ...] = LONGEST) -> list[Sizes]:
    """Sizes as those of a real data set: lengths and distinct items vary by some percent."""
    draws = np.random.default_rng(3)
    sizes = []
    for _ in range(n):
        lengths = np.minimum(3 + draws.exponential(3.0, users).astype(int), STEPS + 1)
        items = int(0.8 * lengths.sum() - draws.integers(0, 20))
        tokens = tuple(int(draws.integers(1, most + 1, items).sum()) for most in longest)
        rows = int(lengths.sum()) - users
        sizes.append(Sizes(users, rows, items, rows + users - int(draws.integers(5)), tokens))
    return sizes


def test_every_batch_they_were_chosen_by_is_held() -> None:
    sizes = batches(120)
    capacities = Capacities.choose(sizes, LIMITS, cost)
    assert len(capacities.buckets) == MOST
    held = [capacities.of(size) for size in sizes]
    assert None not in held
    costs = [cost_of(bucket) for bucket in capacities.buckets]
    assert costs == sorted(costs)
    padded = sum(cost_of(bucket) for bucket in held if bucket is not None)
    assert padded / sum(map(cost_of, sizes)) < 1.08


def test_the_cuts_are_the_best_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("odmt_fast.batch.capacities.MOST", 3)
    sizes = sorted(batches(12), key=cost_of)

    def padded(cuts: tuple[int, ...]) -> float:
        bounds = [0, *cuts, len(sizes)]
        runs = [sizes[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
        return sum(len(run) * cost_of(smallest(run)) for run in runs)

    def smallest(run: list[Sizes]) -> Sizes:
        monkeypatch.setattr("odmt_fast.batch.capacities.MOST", 1)
        (bucket,) = Capacities.choose(run, LIMITS, cost).buckets
        return bucket

    found = Capacities.choose(sizes, LIMITS, cost).buckets
    best = min(combinations(range(1, len(sizes)), 2), key=padded)
    bounds = [0, *best, len(sizes)]
    assert found == tuple(smallest(sizes[a:b]) for a, b in zip(bounds, bounds[1:], strict=False))


def test_what_does_not_fit_runs_as_it_is() -> None:
    sizes = batches(50)
    capacities = Capacities.choose(sizes, LIMITS, cost)
    largest = capacities.buckets[-1]
    short = sizes[0]._replace(users=63)
    for other in (short, largest._replace(users=64, items=largest.items + 1)):
        assert capacities.of(other) is None


@pytest.mark.parametrize(
    ("change", "allowed"),
    [
        ({}, True),
        ({"items": 9}, False),  # 1 dummy item cannot have 9 tokens of text
        ({"tokens": (20, 40)}, False),  # nor 2 items none
        ({"tokens": (22, 42)}, True),
        ({"rows": 41}, False),  # 2 users have 4 steps each at most
        ({"rows": 33}, False),  # and 1 at least
        ({"history": 29}, False),  # and no more columns than there are
    ],
)
def test_dummies_are_whole(change: dict[str, int], allowed: bool) -> None:
    sizes = Sizes(users=10, rows=32, items=8, history=30, tokens=(20, 40))
    capacity = Sizes(users=12, rows=36, items=10, history=32, tokens=(25, 45))
    assert Limits(4, (3, 4)).allow(sizes, capacity._replace(**change)) is allowed


@given(st.integers(1, 12), st.sampled_from([(), (1,), (30,), (1, 50)]), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_any_batch_is_held_by_its_own(n: int, longest: tuple[int, ...], shift: int) -> None:
    limits = Limits(STEPS, longest)
    sizes = batches(n + shift, longest=longest)[shift:]
    capacities = Capacities.choose(sizes, limits, cost)
    assert all(capacities.of(size) is not None for size in sizes)


def test_batches_of_one_shape_have_one() -> None:
    capacities = Capacities.choose(batches(1) * 20, LIMITS, cost)
    assert len(capacities.buckets) == 1
