"""The order of the users: complete, different every epoch, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from odmt_fast.batch.sampler import UserSampler

USERS = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31])


def test_an_epoch_visits_every_user_once() -> None:
    sampler = UserSampler(USERS, batch_size=4, seed=3)
    order = sampler.order(1)
    batches = [sampler.batch(order, step) for step in range(sampler.steps)]
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert sorted(np.concatenate(batches)) == USERS.tolist()


def test_order_is_a_function_of_seed_and_epoch() -> None:
    orders = {
        (seed, epoch): tuple(UserSampler(USERS, 4, seed).order(epoch))
        for seed in (0, 1, -1)
        for epoch in (1, 2)
    }
    assert len(set(orders.values())) == len(orders)
    for (seed, epoch), order in orders.items():
        assert tuple(UserSampler(USERS, 2, seed).order(epoch)) == order


def test_order_never_changes_between_versions() -> None:
    # A resumed run must see the rest of the epoch it began, whatever was upgraded in between.
    assert UserSampler(np.arange(8), 4, seed=1).order(1).tolist() == [0, 7, 6, 1, 2, 5, 4, 3]


def test_positions_are_uniform() -> None:
    firsts = [int(UserSampler(np.arange(4), 1, seed=0).order(epoch)[0]) for epoch in range(400)]
    assert min(np.bincount(firsts, minlength=4)) > 70


def test_batch_size_is_checked() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        UserSampler(USERS, 0, seed=1)
