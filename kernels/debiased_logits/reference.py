"""The law of `debiased_logits`: logits of every row against the distinct columns, plain torch.

Shapes   queries [K, M, d], items [K, U, d] -> logits [K, M, U]: K branches, M rows, U items
Dtypes   the product in the dtype of the inputs, everything after it in fp32 (fp64 for fp64), which
         is what the official code does under autocast
Source   official model/model.py::calculate_logits, on distinct columns (identity 4, README.md)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NEG = -1e4
"""Value of an excluded logit in the output, as in the official code; it carries no gradient."""

EXCLUDED = -1e30
"""Log-weight of an excluded column: finite, since 0 * inf is NaN, and out of any logit's reach."""


class Candidates(NamedTuple):
    """What rows are scored against, a column each: distinct items, and who may not see them.

    Every array has the name it has in a `Batch`.

    The columns of `history[history_offsets[b]:history_offsets[b + 1]]` (sorted, distinct) are
    excluded from the rows of user b, except the column that is the row's own target; that one
    counts once whatever its multiplicity, since its other occurrences are history.
    """

    log_p: Tensor  # [U] fp32, log of the item's share of the training interactions
    counts: Tensor  # [U] int32, occurrences of the item in the batch; 0: the column is padding
    targets: Tensor  # [M] int64, column of the row's target
    row_user: Tensor  # [M] int32, user of the row
    history_offsets: Tensor  # [B + 1] int32, CSR row pointers
    history: Tensor  # [H] int32, CSR columns


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """fp64 for fp64, fp32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def debias(scores: Tensor, candidates: Candidates) -> Tensor:
    """u . e - log p from scores u . e [K, M, U], before multiplicities; fp32 (or fp64)."""
    dtype = accumulation_dtype(scores.dtype)
    return scores.to(dtype) - candidates.log_p.to(dtype)


def log_weights(candidates: Candidates, dtype: torch.dtype) -> Tensor:
    """[M, U]: log count, 0 at the target, EXCLUDED at what weighs nothing for the row.

    That is the other columns of the user's history, and columns of count 0.
    """
    offsets, history = candidates.history_offsets.long(), candidates.history.long()
    n_users, n_columns = offsets.numel() - 1, candidates.log_p.numel()
    users = torch.arange(n_users, device=offsets.device)
    users = users.repeat_interleave(offsets.diff(), output_size=history.numel())
    seen = torch.zeros(n_users, n_columns, dtype=torch.bool, device=offsets.device)
    seen = seen.index_put((users, history), seen.new_ones(()))
    log_counts = candidates.counts.to(dtype).log().clamp_min(EXCLUDED)
    weights = log_counts.masked_fill(seen[candidates.row_user.long()], EXCLUDED)
    return weights.scatter(1, candidates.targets[:, None], 0.0)


def weigh(scores: Tensor, candidates: Candidates) -> Tensor:
    """u . e - log p + log count, NEG where the column is excluded from the row."""
    z = debias(scores, candidates)
    weights = log_weights(candidates, z.dtype)
    return (z + weights).masked_fill(weights == EXCLUDED, NEG)


def debiased_logits(queries: Tensor, items: Tensor, candidates: Candidates) -> Tensor:
    """The logits [K, M, U]; op.py has the contract."""
    return weigh(torch.bmm(queries, items.transpose(1, 2)), candidates)
