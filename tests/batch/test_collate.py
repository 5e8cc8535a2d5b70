"""Batches against a plain loop over the users."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from odmt_fast.batch.collate import Collator
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable

LISTS = [[5, 2, 9, 2, 7, 1], [3], [4, 4], [], [9, 8, 3], [6, 5, 4, 3, 2, 1, 9, 8]]
S = 4


def table(dim: int, dtype: torch.dtype) -> TokenTable:
    """Item i owns i % 3 + 1 tokens, whose values say whose they are."""
    lengths = torch.tensor([0] + [i % 3 + 1 for i in range(1, 10)])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    owners = torch.repeat_interleave(torch.arange(10), lengths)
    return TokenTable(owners[:, None].expand(-1, dim).to(dtype).contiguous(), offsets)


def test_users_without_a_row_are_left_out_and_counted() -> None:
    collate = Collator(Sequences.from_lists(LISTS), S)
    assert collate.users.tolist() == [0, 2, 4, 5]
    assert collate.skipped == 2


def test_batch_holds_the_last_items_of_each_user_in_order() -> None:
    users = np.array([5, 0, 4, 2])
    batch = Collator(Sequences.from_lists(LISTS), S)(users)
    kept = [LISTS[u][-(S + 1) :] for u in users]
    assert batch.items.tolist() == sorted({item for items in kept for item in items})
    assert batch.items[batch.occurrences].tolist() == [item for items in kept for item in items]
    assert batch.cu_seqlens.diff().tolist() == [len(items) - 1 for items in kept]
    pairs = [(b, x, y) for b, items in enumerate(kept) for x, y in pairwise(items)]
    assert (
        list(
            zip(
                batch.row_user.tolist(),
                batch.items[batch.inputs].tolist(),
                batch.items[batch.targets].tolist(),
                strict=True,
            )
        )
        == pairs
    )
    steps = [S - (len(items) - 1) + t for items in kept for t in range(len(items) - 1)]
    assert batch.positions.tolist() == steps
    assert batch.max_seqlen == S
    for b, items in enumerate(kept):
        columns = batch.history[batch.history_offsets[b] : batch.history_offsets[b + 1]]
        assert batch.items[columns.long()].tolist() == sorted(set(items))


def test_features_are_those_of_the_distinct_items_in_their_dtype() -> None:
    sources = (table(3, torch.float16), table(2, torch.float32))
    batch = Collator(Sequences.from_lists(LISTS), S, sources)(np.array([4, 2]))
    assert batch.items.tolist() == [3, 4, 8, 9]
    for tokens, source in zip(batch.features, sources, strict=True):
        assert tokens.values.dtype == source.values.dtype
        assert tokens.values[:, 0].tolist() == [3, 4, 4, 8, 8, 8, 9]
        assert tokens.lengths.tolist() == [1, 2, 3, 1]


def test_every_tensor_is_listed() -> None:
    batch = Collator(Sequences.from_lists(LISTS), S, (table(2, torch.float32),))(np.array([0]))
    assert len(list(batch.tensors())) == 10 + 2
