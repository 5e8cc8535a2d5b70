"""The columns of a batch against a plain count of what was put there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.candidates import Candidates
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.loader import BatchLoader
from odmt_fast.config import ModelConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable

N_ITEMS, S, DRAWS, SEED = 12, 4, 30, 7
LISTS = [[5, 2, 9, 2, 7, 1], [3, 5], [4, 4], [9, 8, 3], [6, 5, 4, 3, 2, 1, 9, 8]]
USERS = np.array([4, 0, 2])
NEVER = {10, 11, 12}
KINDS = ("in_batch", "mixed", "sampled", "full")
LOGQ = ("official", "none", "positive_uncorrected", "recsys25")


def shares() -> np.ndarray:
    """Items 10, 11 and 12 were never bought."""
    times = np.bincount([item for items in LISTS for item in items], minlength=N_ITEMS + 1)
    return np.concatenate([[1.0], times[1:] / times.sum()])


def candidates(kind: str, logq: str = "official", power: float = 0.5) -> Candidates:
    config = ModelConfig(candidates=kind, logq=logq, draws=DRAWS, draw_power=power)  # type: ignore[arg-type]
    return Candidates(config, shares(), SEED)


def batch_of(columns: Candidates | None, step: int = 3) -> Batch:
    return Collator(Sequences.from_lists(LISTS), S, candidates=columns)(USERS, 2, step)


@pytest.mark.parametrize("kind", KINDS)
def test_columns_are_counted_and_those_of_the_batch_come_first(kind: str) -> None:
    plain, batch = batch_of(None), batch_of(candidates(kind))
    own = [item for user in USERS for item in LISTS[user][-(S + 1) :]]
    drawn = candidates(kind).draw(2, 3).tolist()
    assert len(drawn) == (DRAWS if kind in ("mixed", "sampled") else 0)
    expected = {
        "in_batch": Counter(own),
        "mixed": Counter(own + drawn),
        "sampled": Counter(drawn),
        "full": Counter(range(1, N_ITEMS + 1)),
    }[kind]
    first = len(plain.items)
    assert torch.equal(batch.items[:first], plain.items)
    rest = batch.items[first:].tolist()
    assert rest == sorted(set(expected) - set(own))
    counts = dict(zip(batch.items.tolist(), batch.counts.tolist(), strict=True))
    assert counts == {item: expected[item] for item in counts}
    assert batch.counts.dtype == torch.int32 and batch.items.dtype == torch.int64
    for name in ("occurrences", "inputs", "targets", "history", "positions", "row_user"):
        assert torch.equal(getattr(batch, name), getattr(plain, name)), name


@pytest.mark.parametrize("logq", LOGQ)
@pytest.mark.parametrize("kind", KINDS)
def test_corrections_are_those_of_the_expected_counts(kind: str, logq: str) -> None:
    batch = batch_of(candidates(kind, logq))
    if (kind, logq) == ("in_batch", "official"):
        assert batch.log_q is None
        return
    odds = shares() ** 0.5
    odds[0] = 0.0
    odds /= odds.sum()
    n = 0 if kind in ("in_batch", "full") else DRAWS
    occurrences = 0 if kind in ("sampled", "full") else len(batch.occurrences)
    expected = occurrences * shares() + n * odds
    if kind == "full" or logq == "none":
        q = np.ones(N_ITEMS + 1)
    else:
        q = expected if logq == "recsys25" else expected / (occurrences + n)
    assert batch.log_q is not None and batch.log_q.dtype == torch.float32
    np.testing.assert_allclose(batch.log_q.numpy(), np.log(q[batch.items.numpy()]), rtol=1e-6)
    own = logq in ("positive_uncorrected", "recsys25") and kind != "full"
    assert batch.own_targets == own


@pytest.mark.parametrize(("power", "absent"), [(0.0, {0}), (0.75, {0, *NEVER}), (2.0, {0, *NEVER})])
def test_draws_follow_the_popularity(power: float, absent: set[int]) -> None:
    config = ModelConfig(candidates="sampled", draws=40_000, draw_power=power)
    drawn = np.bincount(Candidates(config, shares(), 1).draw(1, 0), minlength=N_ITEMS + 1)
    assert set(np.flatnonzero(drawn == 0).tolist()) == absent
    odds = shares() ** power
    odds[0] = 0.0
    odds /= odds.sum()
    # Five standard errors of the most uncertain frequency.
    np.testing.assert_allclose(drawn / 40_000, odds, atol=5 * 0.5 / 40_000**0.5)


def test_draws_are_of_the_seed_the_epoch_and_the_step() -> None:
    config = ModelConfig(candidates="mixed", draws=DRAWS)
    drawn = {
        (seed, epoch, step): tuple(Candidates(config, shares(), seed).draw(epoch, step).tolist())
        for seed in (1, 2)
        for epoch in (1, 2)
        for step in (0, 1)
    }
    assert len(set(drawn.values())) == len(drawn)
    assert drawn[1, 2, 1] == tuple(Candidates(config, shares(), 1).draw(2, 1).tolist())
    # For all time: an old run is resumed with the draws it began with.
    assert drawn[1, 1, 0][:5] == (1, 7, 9, 7, 10)


def test_drawn_items_bring_their_features() -> None:
    table = TokenTable.from_padded(torch.arange(N_ITEMS + 1.0)[:, None, None].expand(-1, 2, 3))
    collate = Collator(Sequences.from_lists(LISTS), S, (table,), candidates("mixed"))
    batch = collate(USERS, 2, 3)
    assert batch.features[0].lengths.tolist() == [2] * len(batch.items)
    assert batch.features[0].values[::2, 0].tolist() == batch.items.tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_draws_by_epoch_and_step(workers: int) -> None:
    collate = Collator(Sequences.from_lists(LISTS), S, candidates=candidates("mixed"))
    with BatchLoader(collate, batch_size=2, seed=SEED, workers=workers) as loader:
        order = loader.sampler.order(3)
        for step, batch in enumerate(loader.epoch(3)):
            expected = collate(order[2 * step : 2 * step + 2], 3, step)
            expected = replace(expected, noise=batch.noise)
            assert all(
                torch.equal(a, b) for a, b in zip(batch.tensors(), expected.tensors(), strict=True)
            )
