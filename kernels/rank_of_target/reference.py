"""Rank of the target, the law: score everything, exclude the history, count what is above.

Shapes    queries [K, B, d], items [K, n, d], any float dtype; row 0 of items is padding
Returns   ranks, ties: int64 [R, B]; R is K + 1, the last row the ensemble (mean of the scores);
          of a single branch the mean is the branch, and R is 1
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
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Ranks of `targets` for each branch and the ensemble; arguments as in ``op.py``."""
    scores = queries @ items.transpose(1, 2)
    if scores.shape[0] > 1:
        scores = torch.cat([scores, scores.mean(0, keepdim=True)])
    return rank_of_score(scores, targets, history_offsets, history, repeats, allowed)


def rankings(branches: int) -> int:
    """R: the branches and, where there are several, their ensemble."""
    return branches + (branches > 1)


def rank_of_score(
    scores: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    repeats: Repeats = "rank",
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Ranks of `targets` given all scores.

    Args:
        scores: [R, B, n]; column 0 is padding and never counts.
        targets: int64 [B], in 1..n-1.
        history_offsets: [B + 1], CSR offsets of `history`.
        history: [H], items of each user that are left out.
        repeats: what becomes of a target inside its history.
        allowed: bool [n], the items that count; None = all. A target that does not is ranked
            among those that do.

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
    if allowed is not None:
        counted &= allowed
    counted[users, targets] = False
    ranks = 1 + ((scores > at_target) & counted).sum(-1)
    ties = ((scores == at_target) & counted).sum(-1)
    return ranks, ties
