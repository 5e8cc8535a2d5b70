"""Rank of the target, the law: score everything, exclude the history, count what is above.

Shapes    queries [K, B, d], items [K, n, d], any float dtype; row 0 of items is padding
Returns   ranks, ties: int64 [K + 1, B]; the last row is the ensemble, the mean of the K scores
Rank      1 + #{score > target's}, ties are the *other* items whose score equals the target's
Source    ODMT, arXiv 2308.04067; official utils/metrics.py::eval_model
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Repeats = Literal["rank", "miss"]
"""A target that lies in the user's own history is ranked all the same, or scores -inf like the
rest of the history (the official behaviour)."""


def rank_of_target(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    repeats: Repeats,
) -> tuple[Tensor, Tensor]:
    """Ranks of `targets` for each branch and the ensemble; arguments as in ``op.py``."""
    scores = queries @ items.transpose(1, 2)
    scores = torch.cat([scores, scores.mean(0, keepdim=True)])
    return rank_of_score(scores, targets, history_offsets, history, repeats)


def rank_of_score(
    scores: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    repeats: Repeats = "rank",
) -> tuple[Tensor, Tensor]:
    """Ranks of `targets` given all scores.

    Args:
        scores: [R, B, n]; column 0 is padding and never counts.
        targets: int64 [B], in 1..n-1.
        history_offsets: [B + 1], CSR offsets of `history`.
        history: [H], items of each user that are left out.
        repeats: what becomes of a target inside its history.

    Returns:
        ranks, ties: int64 [R, B].
    """
    users = torch.arange(targets.shape[0], device=scores.device)
    excluded = torch.zeros(scores.shape[1:], dtype=torch.bool, device=scores.device)
    excluded[users.repeat_interleave(history_offsets.diff()), history.long()] = True
    if repeats == "rank":
        excluded[users, targets] = False
    scores = scores.masked_fill(excluded, -torch.inf)
    at_target = scores[:, users, targets].unsqueeze(-1)
    counted = torch.ones_like(excluded)
    counted[:, 0] = False
    counted[users, targets] = False
    ranks = 1 + ((scores > at_target) & counted).sum(-1)
    ties = ((scores == at_target) & counted).sum(-1)
    return ranks, ties
