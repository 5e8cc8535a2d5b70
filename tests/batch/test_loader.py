"""The loader: the same batches whatever the workers, errors that arrive, threads that end."""

from __future__ import annotations

import threading
import time
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.capacities import Array, Capacities
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.loader import BatchLoader
from odmt_fast.batch.padding import sizes_of
from odmt_fast.batch.sampler import UserSampler
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import PackedTokens, TokenTable

N_ITEMS = 40


@pytest.fixture
def collate() -> Collator:
    """70 users with 1 to 9 items and features of 40 items."""
    draws = np.random.default_rng(0)
    lists = [draws.integers(1, N_ITEMS + 1, draws.integers(1, 10)).tolist() for _ in range(70)]
    features = torch.arange((N_ITEMS + 1) * 6.0).reshape(N_ITEMS + 1, 2, 3)
    return Collator(Sequences.from_lists(lists), 5, (TokenTable.from_padded(features),))


def flat(batch: Batch) -> list[object]:
    """Every value of a batch, for comparisons."""
    values = [getattr(batch, field.name) for field in fields(batch) if field.name != "features"]
    values += [x for tokens in batch.features for x in (tokens.values, tokens.lengths)]
    return [value.tolist() if isinstance(value, Tensor) else value for value in values]


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(collate: Collator, workers: int) -> None:
    with (
        BatchLoader(collate, batch_size=8, seed=4) as plain,
        BatchLoader(collate, batch_size=8, seed=4, workers=workers) as threaded,
    ):
        for epoch in (1, 2):
            expected = [flat(batch) for batch in plain.epoch(epoch)]
            assert len(expected) == plain.steps
            assert [flat(batch) for batch in threaded.epoch(epoch)] == expected
            assert [flat(batch) for batch in threaded.epoch(epoch, 3)] == expected[3:]
        assert list(threaded.epoch(1, threaded.steps)) == []


def capacities_of(collate: Collator) -> Capacities:
    """Of batches of 8, by a cost of some kind."""

    def cost(rows: Array, items: Array, tokens: Array) -> Array:
        return 9.0 * rows + items + 4.0 * tokens.sum(axis=1)

    sizes = collate.first_sizes(UserSampler(collate.users, 8, seed=4), 20)
    assert len(sizes) == 20 and {size.users for size in sizes} == {8}
    return Capacities.choose(sizes, collate.limits, cost)


def test_full_batches_are_padded_to_a_few_shapes(collate: Collator) -> None:
    capacities = capacities_of(collate)
    with (
        BatchLoader(collate, batch_size=8, seed=4) as plain,
        BatchLoader(collate, batch_size=8, seed=4, capacities=capacities) as padding,
        BatchLoader(collate, batch_size=8, seed=4, capacities=capacities, workers=2) as threaded,
    ):
        for epoch in (1, 2):
            found = list(padding.epoch(epoch))
            assert [flat(batch) for batch in threaded.epoch(epoch)] == [flat(b) for b in found]
            for batch, padded in zip(plain.epoch(epoch), found, strict=True):
                assert padded.noise == batch.noise and padded.n_users == batch.n_users
                assert torch.equal(padded.items[: len(batch.items)], batch.items)
                full = batch.n_users == 8
                assert (sizes_of(padded) in capacities.buckets) == full
                assert (sizes_of(padded) == sizes_of(batch)) != full


def test_no_full_batch_has_no_size(collate: Collator) -> None:
    assert collate.first_sizes(UserSampler(collate.users, 100, seed=4), 20) == []


def test_noise_is_a_function_of_seed_epoch_and_step(collate: Collator) -> None:
    def noise(seed: int, epoch: int, start: int = 0) -> list[int]:
        loader = BatchLoader(collate, batch_size=8, seed=seed)
        return [int(batch.noise) for batch in loader.epoch(epoch, start) if batch.noise is not None]

    first = noise(4, 1)
    assert len({*first, *noise(4, 2), *noise(5, 1)}) == 3 * len(first)
    assert noise(4, 1, 3) == first[3:]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arrives_at_its_batch(collate: Collator, workers: int) -> None:
    class Broken:
        """Fails on the third batch."""

        users = collate.users

        def __init__(self) -> None:
            self.calls: list[int] = []

        def __call__(self, users: np.ndarray, epoch: int, step: int) -> Batch:
            if users[0] == third:
                raise OSError("token store is gone")
            return collate(users)

    with BatchLoader(Broken(), batch_size=8, seed=4, workers=workers) as loader:  # type: ignore[arg-type]
        order = loader.sampler.order(1)
        third = order[16]
        batches = loader.epoch(1)
        for first in (0, 8):
            batch = next(batches)
            expected = replace(collate(order[first : first + 8]), noise=batch.noise)
            assert flat(batch) == flat(expected)
        with pytest.raises(OSError, match="token store is gone"):
            next(batches)


def test_batches_are_built_ahead_but_not_without_bound(collate: Collator) -> None:
    built: list[int] = []

    class Counting:
        users = collate.users

        def __call__(self, users: np.ndarray, epoch: int, step: int) -> Batch:
            built.append(len(users))
            return collate(users)

    with BatchLoader(Counting(), batch_size=2, seed=1, workers=2) as loader:  # type: ignore[arg-type]
        batches = loader.epoch(1)
        next(batches)
        deadline = time.monotonic() + 5
        while len(built) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        assert len(built) == 1 + 2 * 2


def test_closing_ends_the_threads_and_leaves_torch_its_own(collate: Collator) -> None:
    allowed = torch.get_num_threads()
    torch.set_num_threads(threads := 2)
    before = threading.active_count()
    loader = BatchLoader(collate, batch_size=4, seed=1, workers=3)
    next(loader.epoch(1))
    assert threading.active_count() == before + 3
    seen: list[int] = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert [*seen, torch.get_num_threads()] == [threads, threads]
    loader.close()
    torch.set_num_threads(allowed)
    assert threading.active_count() == before


def test_workers_use_one_thread_each(collate: Collator) -> None:
    seen: list[int] = []

    class Source:
        dim, n_items, max_length = 1, N_ITEMS, 1

        def gather(self, items: Tensor) -> PackedTokens:
            seen.append(torch.get_num_threads())
            return PackedTokens(torch.zeros(len(items), 1), torch.ones(len(items)).long(), 1)

    sequences = Sequences.from_lists([[1, 2]] * 8)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with BatchLoader(Collator(sequences, 3, (Source(),)), batch_size=1, seed=1, workers=2) as l:
            list(l.epoch(1))
        assert seen == [1] * 8
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_arguments_are_checked(collate: Collator) -> None:
    with pytest.raises(ValueError, match="workers must be 0 or more, got -1"):
        BatchLoader(collate, batch_size=4, seed=1, workers=-1)
    with pytest.raises(ValueError, match="start=99 is not a step"):
        next(BatchLoader(collate, batch_size=8, seed=1).epoch(1, 99))


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_arrive_on_the_gpu(collate: Collator, workers: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    with BatchLoader(collate, batch_size=8, seed=4, device="cuda", workers=workers) as loader:
        for step, batch in enumerate(loader.epoch(1)):
            assert all(tensor.is_cuda for tensor in batch.tensors())
            users = loader.sampler.batch(loader.sampler.order(1), step)
            assert flat(batch) == flat(collate(users))
