"""The best of candidates that every user has of its own: only they are scored."""

from __future__ import annotations

import torch
from torch import Tensor

_TILE_BYTES = 32 << 20
"""Item vectors that are gathered at a time."""


def top_k_among(
    queries: Tensor,
    items: Tensor,
    k: int,
    offsets: Tensor,
    candidates: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    *,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The k candidates with the highest inner product with their user, best first.

    Args:
        queries: [B, D] user vectors, float32.
        items: [n, D] item vectors, float32; row 0 is padding and never returned.
        k: items per user, at least 1.
        offsets: int64 [B + 1], CSR offsets of `candidates`.
        candidates: int64 [C], rows of `items` that each user is offered, in any order, repeats and
            padding included.
        history_offsets: int64 [B + 1], CSR offsets of `history`.
        history: int64 [H], items left out for each user.
        allowed: bool [n], the items that may be returned to anybody; None = all.

    Returns:
        ids: int64 [B, k], rows of `items`, of equal scores the lower first; -1 where fewer than k
            candidates are left.
        scores: float32 [B, k]; -inf there.

    Raises:
        ValueError: k is below 1, or a score is not finite.
    """
    if k < 1:
        raise ValueError(f"top_k_among: k must be at least 1, got {k}")
    users, n_items = queries.shape[0], items.shape[0]
    every = torch.arange(users, device=queries.device)
    offered = torch.unique(every.repeat_interleave(offsets.diff()) * n_items + candidates)
    left_out = every.repeat_interleave(history_offsets.diff()) * n_items + history
    offered = offered[~torch.isin(offered, left_out)]
    item = offered % n_items
    may = item > 0 if allowed is None else (item > 0) & allowed[item]
    user, item = offered[may] // n_items, item[may]
    tile = max(1, _TILE_BYTES // (4 * items.shape[1]))
    pairs = zip(user.split(tile), item.split(tile), strict=True)
    scores = torch.cat([(queries[u] * items[i]).sum(1) for u, i in pairs])
    if not scores.isfinite().all():
        raise ValueError("top_k_among: queries or items hold a value that is not finite")
    # Users in order, within each the best first, of equal ones the lower item: both sorts keep it.
    order = scores.argsort(descending=True, stable=True)
    order = order[user[order].argsort(stable=True)]
    user, item, scores = user[order], item[order], scores[order]
    place = torch.arange(len(user), device=user.device) - torch.searchsorted(user, user)
    kept = place < k
    ids = torch.full((users, k), -1, dtype=torch.int64, device=queries.device)
    best = torch.full((users, k), -torch.inf, device=queries.device)
    ids[user[kept], place[kept]] = item[kept]
    best[user[kept], place[kept]] = scores[kept]
    return ids, best
