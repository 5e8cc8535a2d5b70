"""The law of `batch_index` in plain torch; no loop per user or item."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class BatchIndex(NamedTuple):
    """Index arrays of a batch of B users; N occurrences, U distinct items, M rows (see `Batch`).

    Attributes:
        items: int64 [U], sorted distinct item ids.
        counts: int32 [U], occurrences of each.
        occurrences: int64 [N], column (index into `items`) of each occurrence, user-major.
        cu_seqlens: int32 [B + 1], cu_seqlens of the rows; a user with n items has n - 1.
        inputs: int64 [M], column of the row's input item.
        targets: int64 [M], column of its target, the next item.
        row_user: int32 [M], user of the row.
        positions: int64 [M], right-aligned step max_seq_len - (n - 1) + t.
        history_offsets: int32 [B + 1], CSR offsets of `history`.
        history: int32 [H], sorted distinct columns of each user.
        max_seqlen: the most rows a user has.
    """

    items: Tensor
    counts: Tensor
    occurrences: Tensor
    cu_seqlens: Tensor
    inputs: Tensor
    targets: Tensor
    row_user: Tensor
    positions: Tensor
    history_offsets: Tensor
    history: Tensor
    max_seqlen: int


def offsets_of(lengths: Tensor) -> Tensor:
    """int64 [B + 1] offsets of segments of `lengths`."""
    return torch.nn.functional.pad(lengths.cumsum(0), (1, 0))


def batch_index_reference(item_ids: Tensor, lengths: Tensor, max_seq_len: int) -> BatchIndex:
    """See `batch_index`; the arguments are checked there."""
    item_ids, lengths = item_ids.long(), lengths.long()
    users = torch.arange(lengths.shape[0])
    items, occurrences, counts = torch.unique(
        item_ids, sorted=True, return_inverse=True, return_counts=True
    )
    offsets = offsets_of(lengths)
    rows = lengths - 1
    row_offsets = offsets_of(rows)
    row_user = torch.repeat_interleave(users, rows)
    # Row r of user u is step t; its input is occurrence offsets[u] + t.
    step = torch.arange(row_user.shape[0]) - row_offsets[row_user]
    occurrence = offsets[row_user] + step
    # One number per (user, column) pair, sorted by both.
    pairs = torch.unique(torch.repeat_interleave(users, lengths) * items.shape[0] + occurrences)
    history_user = pairs // items.shape[0]
    history = pairs - history_user * items.shape[0]
    return BatchIndex(
        items=items,
        counts=counts.to(torch.int32),
        occurrences=occurrences,
        cu_seqlens=row_offsets.to(torch.int32),
        inputs=occurrences[occurrence],
        targets=occurrences[occurrence + 1],
        row_user=row_user.to(torch.int32),
        positions=max_seq_len - rows[row_user] + step,
        history_offsets=offsets_of(torch.bincount(history_user, minlength=lengths.shape[0])).to(
            torch.int32
        ),
        history=history.to(torch.int32),
        max_seqlen=int(rows.max()) if rows.numel() else 0,
    )
