"""Padded batches: the real ones as they were come first, the dummies weigh nothing."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.capacities import Limits, Sizes
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.padding import pad, sizes_of
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable

LISTS = [[5, 2, 9, 2, 7], [4, 4], [9, 8, 3], [1, 6, 5, 8]]
S = 4
LIMITS = Limits(S, (3,))


@pytest.fixture
def batch() -> Batch:
    """4 users, 10 rows, 9 items of 1 to 3 tokens."""
    lengths = torch.tensor([0] + [i % 3 + 1 for i in range(1, 10)])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    values = torch.arange(1.0, float(offsets[-1]) + 1)[:, None].expand(-1, 2).contiguous()
    collate = Collator(Sequences.from_lists(LISTS), S, (TokenTable(values, offsets),))
    assert collate.limits == LIMITS
    batch = collate(np.arange(4))
    assert collate.sizes(np.arange(4)) == sizes_of(batch) == Sizes(4, 10, 9, 12, (18,))
    return batch


CAPACITY = Sizes(users=6, rows=15, items=11, history=21, tokens=(23,))


def test_real_ones_come_first_as_they_were(batch: Batch) -> None:
    padded = pad(batch, CAPACITY, LIMITS)
    assert sizes_of(padded) == CAPACITY
    for field in fields(batch):
        before, after = getattr(batch, field.name), getattr(padded, field.name)
        if isinstance(before, Tensor):
            assert after.dtype == before.dtype and after.is_contiguous(), field.name
            assert torch.equal(after[: len(before)], before), field.name
    assert padded.max_seqlen == S and padded.n_users == batch.n_users == 4
    (before, after) = batch.features[0], padded.features[0]
    assert torch.equal(after.values[:18], before.values)
    assert after.lengths.tolist() == [*before.lengths.tolist(), 3, 2]
    assert after.max_length == before.max_length


def test_dummies_are_whole_and_weigh_nothing(batch: Batch) -> None:
    padded = pad(batch, CAPACITY, LIMITS)
    assert padded.items[9:].tolist() == padded.counts[9:].tolist() == [0, 0]
    assert not padded.features[0].values[18:].any()
    assert padded.cu_seqlens.tolist()[4:] == [10, 13, 15]
    assert padded.row_user.tolist()[10:] == [4, 4, 4, 5, 5]
    assert padded.positions.tolist()[10:] == [1, 2, 3, 2, 3]
    assert padded.inputs.tolist()[10:] == padded.targets.tolist()[10:] == [0] * 5
    assert len(padded.occurrences) == CAPACITY.rows + CAPACITY.users
    assert padded.history_offsets.tolist()[4:] == [12, 17, 21]
    assert padded.history.tolist()[12:] == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert padded.row_scale is not None and batch.row_scale is None
    assert torch.equal(padded.row_scale, torch.tensor([1 / 10] * 10 + [0.0] * 5))


def test_what_no_whole_dummies_fill_is_refused(batch: Batch) -> None:
    with pytest.raises(ValueError, match=r"Sizes\(users=4.* cannot be padded to .*rows=11"):
        pad(batch, CAPACITY._replace(rows=11), LIMITS)


def test_only_as_many_as_fit(batch: Batch) -> None:
    same = pad(batch, sizes_of(batch), LIMITS)
    assert sizes_of(same) == sizes_of(batch) and same.dummy_users == 0
