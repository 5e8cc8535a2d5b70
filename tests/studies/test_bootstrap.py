"""The bootstrap by groups is the one that draws user by user; equal rankings do not differ."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from odmt_fast.studies.bootstrap import paired_bootstrap


def drawn_one_by_one(
    difference: np.ndarray, users: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """The plain computation: draw users, put their targets together, take the mean."""
    generator = np.random.default_rng(seed)
    of_user = [difference[users == user] for user in range(users.max() + 1)]
    return np.array(
        [
            np.concatenate(
                [of_user[user] for user in generator.integers(0, len(of_user), len(of_user))]
            ).mean()
            for _ in range(draws)
        ]
    )


@pytest.mark.parametrize("most_targets", [1, 4])
def test_groups_are_as_good_as_users_drawn_one_by_one(most_targets: int) -> None:
    generator = np.random.default_rng(0)
    users = np.repeat(np.arange(80), generator.integers(1, most_targets + 1, 80))
    ours = 1 / generator.integers(1, 6, users.size)
    theirs = 1 / generator.integers(1, 8, users.size)
    found = paired_bootstrap(ours, theirs, users, seed=1)
    plain = drawn_one_by_one(ours - theirs, users, 4000, 1)
    spread = plain.std()
    assert found.value == pytest.approx((ours - theirs).mean(), abs=1e-12)
    assert found.low == pytest.approx(np.quantile(plain, 0.025), abs=0.12 * spread)
    assert found.high == pytest.approx(np.quantile(plain, 0.975), abs=0.12 * spread)
    assert found.p == pytest.approx(2 * min((plain <= 0).mean(), (plain >= 0).mean()), abs=0.02)


def test_three_users_have_the_distribution_of_all_their_draws() -> None:
    gains = np.array([1.0, 0.0, 0.0, 0.5])
    users = np.array([0, 1, 2, 2])
    sums, sizes = np.bincount(users, gains - 0.3), np.bincount(users)
    means = np.array(
        [sums[list(draw)].sum() / sizes[list(draw)].sum() for draw in product(range(3), repeat=3)]
    )
    found = paired_bootstrap(gains, np.full(4, 0.3), users, seed=3)
    assert found.low == pytest.approx(means.min()) and found.high == pytest.approx(means.max())
    assert found.p == pytest.approx(2 * min((means <= 0).mean(), (means >= 0).mean()), abs=0.03)


def test_equal_rankings_have_no_difference() -> None:
    gains = np.random.default_rng(0).random(50)
    found = paired_bootstrap(gains, gains.copy(), np.arange(50), seed=1)
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_large_difference_has_the_least_p_and_the_seed_decides() -> None:
    generator = np.random.default_rng(0)
    ours, theirs = generator.random(200) + 1, generator.random(200)
    found = paired_bootstrap(ours, theirs, np.arange(200), seed=1)
    assert found.low < found.value < found.high and found.p == 2 / 10_001
    assert found == paired_bootstrap(ours, theirs, np.arange(200), seed=1)
    assert found != paired_bootstrap(ours, theirs, np.arange(200), seed=2)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="2, 1 and 2 targets"):
        paired_bootstrap(np.zeros(2), np.zeros(1), np.zeros(2, int), seed=1)
    with pytest.raises(ValueError, match="draws=0"):
        paired_bootstrap(np.zeros(2), np.zeros(2), np.zeros(2, int), seed=1, draws=0)
