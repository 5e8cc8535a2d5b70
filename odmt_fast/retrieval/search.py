"""Exact top-k of the ensemble as one inner product (DESIGN identity 7), tiled over items.

The ensemble's score is the mean over branches of ``u_k . e_k``: the inner product of the branches'
vectors side by side, the items' divided by K. Any index of inner products serves these vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Scores of one tile, in bytes.
_TILE_BYTES = 64 << 20


def item_vectors(catalogue: Tensor) -> Tensor:
    """[n_items + 1, K d] from embeddings [K, n_items + 1, d]; row 0 is padding."""
    return catalogue.transpose(0, 1).flatten(1) / catalogue.shape[0]


def user_vectors(states: Tensor) -> Tensor:
    """[B, K d] from states [K, B, d]."""
    return states.transpose(0, 1).flatten(1)


def top_k(
    users: Tensor,
    items: Tensor,
    k: int,
    history_offsets: Tensor,
    history: Tensor,
    *,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best items of each user, best first, without the user's history.

    Args:
        users: [B, D] vectors, floating.
        items: [n_items + 1, D] vectors, same dtype; row 0 is padding and never returned.
        k: items per user.
        history_offsets: int64 [B + 1], CSR offsets of `history`.
        history: int64 [H], items left out for each user.
        allowed: bool [n_items + 1], the items that may be returned to anybody; None = all.

    Returns:
        ids: int64 [B, k], rows of `items`; 0 where the catalogue has too few items left.
        scores: [B, k] in the dtype of the vectors; -inf there.

    Raises:
        ValueError: k is below 1, or the vectors differ in width.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if users.shape[1] != items.shape[1]:
        raise ValueError(f"items must have width {users.shape[1]} like users, got {items.shape[1]}")
    n_users = users.shape[0]
    owners = torch.arange(n_users, device=users.device).repeat_interleave(history_offsets.diff())
    history, order = history.sort()
    owners = owners[order]
    best = users.new_full((n_users, k), -torch.inf)
    ids = torch.zeros(n_users, k, dtype=torch.int64, device=users.device)
    width = max(k, _TILE_BYTES // max(1, n_users * users.element_size()))
    for start in range(1, items.shape[0], width):
        end = min(start + width, items.shape[0])
        scores = users @ items[start:end].t()
        if allowed is not None:
            scores.masked_fill_(~allowed[start:end], -torch.inf)
        low, high = torch.searchsorted(history, torch.tensor([start, end]).to(history)).tolist()
        scores[owners[low:high], history[low:high] - start] = -torch.inf
        tile_ids = torch.arange(start, end, device=users.device).expand(n_users, -1)
        best, chosen = torch.cat([best, scores], dim=1).topk(k, dim=1)
        ids = torch.cat([ids, tile_ids], dim=1).gather(1, chosen)
    return ids.masked_fill(best == -torch.inf, 0), best
