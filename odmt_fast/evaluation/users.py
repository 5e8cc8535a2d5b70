"""Batches of users to rank for: inputs, target, and the items left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from odmt_fast.data.sequences import Sequences


@dataclass(frozen=True)
class UserBatch:
    """B users of one ranking step.

    Attributes:
        items: int64 [N], dense item ids of the inputs, user-major, oldest first.
        offsets: int64 [B + 1], cu_seqlens of `items`.
        targets: int64 [B], the item to find.
        history_offsets: int64 [B + 1], CSR offsets of `history`.
        history: int64 [H], items left out for each user.
        repeated: bool [B], the target lies in the user's own history.
    """

    items: Tensor
    offsets: Tensor
    targets: Tensor
    history_offsets: Tensor
    history: Tensor
    repeated: Tensor


def user_batches(
    sequences: Sequences, history: Sequences, batch_size: int, device: torch.device | str = "cpu"
) -> Iterator[UserBatch]:
    """Splits users into batches on `device`; the last item of a sequence is the target.

    Raises:
        ValueError: the two do not describe the same users, or a user has no input.
    """
    if len(sequences) != len(history):
        raise ValueError(
            f"history has {len(history)} users, sequences {len(sequences)}; pass both of one split"
        )
    lengths = np.diff(sequences.offsets)
    if len(lengths) and lengths.min() < 2:
        raise ValueError(
            f"user {int(lengths.argmin())} has {int(lengths.min())} items; ranking needs an input "
            "and a target: leave such users out of the split"
        )
    for start in range(0, len(sequences), batch_size):
        end = min(start + batch_size, len(sequences))
        whole, offsets = _csr(sequences, start, end)
        targets = whole[offsets[1:] - 1]
        inputs = torch.ones_like(whole, dtype=torch.bool)
        inputs[offsets[1:] - 1] = False
        past, past_offsets = _csr(history, start, end)
        owners = torch.arange(end - start).repeat_interleave(past_offsets.diff())
        repeated = torch.zeros(end - start, dtype=torch.bool)
        repeated[owners[past == targets[owners]]] = True
        yield UserBatch(
            items=whole[inputs].to(device),
            offsets=(offsets - torch.arange(end - start + 1)).to(device),
            targets=targets.to(device),
            history_offsets=past_offsets.to(device),
            history=past.to(device),
            repeated=repeated.to(device),
        )


def _csr(sequences: Sequences, start: int, end: int) -> tuple[Tensor, Tensor]:
    """Items and offsets of the users start..end-1, int64, on the CPU."""
    offsets = sequences.offsets[start : end + 1].astype(np.int64)
    items = sequences.items[offsets[0] : offsets[-1]].astype(np.int64)
    return torch.from_numpy(items), torch.from_numpy(offsets - offsets[0])
