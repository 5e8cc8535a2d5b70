"""Top-k, tile of items by tile of items: torch operators, any device and dtype, no [B, n]."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.launch.catalogue import Excluded
from odmt_fast.kernels.top_k.reference import best


def top_k(
    queries: Tensor, items: Tensor, k: int, excluded: Excluded, tile_bytes: int
) -> tuple[Tensor, Tensor]:
    """The k best items of each user; arguments as in ``op.py``."""
    dtype = torch.promote_types(queries.dtype, torch.float32)
    queries = queries.to(dtype)
    users, device = queries.shape[0], queries.device
    history, order = excluded.items.sort()
    owners = excluded.owners[order]
    scores = queries.new_full((users, k), -torch.inf)
    ids = torch.full((users, k), -1, device=device)
    width = max(k, tile_bytes // max(1, users * queries.element_size()))
    edges = [*range(1, items.shape[0], width), items.shape[0]]
    cuts = torch.searchsorted(history, torch.tensor(edges, device=device)).tolist()
    for tile, start in enumerate(edges[:-1]):
        here, end = slice(cuts[tile], cuts[tile + 1]), edges[tile + 1]
        found = queries @ items[start:end].to(dtype).t()
        found[owners[here], history[here] - start] = -torch.inf
        if excluded.allowed is not None:
            found[:, ~excluded.allowed[start:end]] = -torch.inf
        rows = torch.arange(start, end, device=device).expand(users, -1)
        # Those found before stand before: of equal scores they are taken.
        ids, scores = best(torch.cat([scores, found], 1), torch.cat([ids, rows], 1), k)
    return ids, scores
