"""batch_index: checks and backend choice."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.backend import choose, extension_missing, runs_anywhere
from odmt_fast.kernels.batch_index.reference import BatchIndex, batch_index_reference


def batch_index(item_ids: Tensor, lengths: Tensor, max_seq_len: int) -> BatchIndex:
    """The index arrays of a training batch (DESIGN section 4).

    Args:
        item_ids: int32 or int64 [N] on the CPU, sequences of the users one after the other, oldest
            first; ids >= 1.
        lengths: int32 or int64 [B] on the CPU, items of each user, 1 to max_seq_len + 1.
        max_seq_len: S, the most inputs a user has.

    Raises:
        ValueError: an id below 1, or a length outside 1..S + 1, naming user and value.
    """
    for name, value in (("item_ids", item_ids), ("lengths", lengths)):
        if value.dim() != 1 or value.dtype not in (torch.int32, torch.int64):
            raise ValueError(
                f"batch_index: {name} must be int32 or int64 [*], got {value.dtype} "
                f"{list(value.shape)}"
            )
        if value.device.type != "cpu":
            raise ValueError(f"batch_index: {name} must be on the CPU, got {value.device}")
    candidates = {"cpu": extension_missing, "reference": runs_anywhere}
    if choose("batch_index", "cpu", candidates) == "cpu":
        from odmt_fast.kernels.batch_index import cpu

        return cpu.batch_index(item_ids, lengths, max_seq_len)
    _check_values(item_ids, lengths, max_seq_len)
    return batch_index_reference(item_ids, lengths, max_seq_len)


def _check_values(item_ids: Tensor, lengths: Tensor, max_seq_len: int) -> None:
    bad = (lengths < 1) | (lengths > max_seq_len + 1)
    if bool(bad.any()):
        user = int(bad.nonzero()[0])
        raise ValueError(
            f"batch_index: user {user} has {int(lengths[user])} items; cut sequences to 1 to "
            f"max_seq_len + 1 = {max_seq_len + 1}"
        )
    if int(lengths.sum()) != item_ids.shape[0]:
        raise ValueError(
            f"batch_index: lengths sum to {int(lengths.sum())}, but there are "
            f"{item_ids.shape[0]} item_ids"
        )
    if bool((item_ids < 1).any()):
        place = int((item_ids < 1).nonzero()[0])
        user = int(torch.searchsorted(lengths.cumsum(0), place, right=True))
        raise ValueError(
            f"batch_index: user {user} has item id {int(item_ids[place])}; ids start at 1, 0 is "
            "padding and must be left out"
        )
