"""Rank of the target, tile of items by tile of items: no [B, n] matrix, no sorting.

Memory    four scores of one tile, within `tile_bytes`; a tile that fits the cache is read by the
          counting while it is still there.
Ties      the target's score comes from the same matrix product as the scores it is compared with
          (the targets gathered as one more tile), so that equal vectors score equally.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.launch.catalogue import Excluded
from odmt_fast.kernels.rank_of_target.reference import Repeats, rankings

# Products with few rows or columns take routines that add in another order.
_FEWEST_ROWS, _FEWEST_COLUMNS = 16, 64


def rank_of_target(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    excluded: Excluded,
    repeats: Repeats,
    tile_bytes: int,
) -> tuple[Tensor, Tensor]:
    """Ranks of `targets` for each branch and the ensemble; arguments as in ``op.py``."""
    rows, n_users, n_items = rankings(queries.shape[0]), queries.shape[1], items.shape[1]
    users = torch.arange(n_users, device=queries.device)
    padded = torch.arange(max(n_users, _FEWEST_ROWS), device=queries.device) % n_users
    queries = queries[:, padded]
    owners, history = excluded.owners, excluded.items
    repeated = history == targets[owners]
    if repeats == "rank":
        owners, history = owners[~repeated], history[~repeated]
    history, order = history.sort()
    owners = owners[order]

    columns = torch.arange(max(n_users, _FEWEST_COLUMNS), device=queries.device) % n_users
    own = _scores(queries, items[:, targets[columns]])
    at_target = own[:, users, users]
    if repeats == "miss":
        missed = torch.zeros(n_users, dtype=torch.bool, device=queries.device)
        at_target[:, missed.index_fill(0, owners[repeated[order]], True)] = -torch.inf
    at_target = at_target.unsqueeze(-1)

    bounds = _tiles(n_items, tile_bytes // (rows * padded.shape[0] * own.element_size()))
    edges = torch.tensor(bounds, device=queries.device)
    cuts = torch.searchsorted(history, edges).tolist()
    target_order = targets.argsort()
    target_cuts = torch.searchsorted(targets[target_order], edges).tolist()
    ranks = torch.ones(rows, n_users, dtype=torch.int64, device=queries.device)
    ties = torch.zeros_like(ranks)
    for tile, (start, end) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        scores = _scores(queries, items[:, start:end])[:, :n_users]
        here = slice(cuts[tile], cuts[tile + 1])
        scores[:, owners[here], history[here] - start] = -torch.inf
        # NaN compares false with everything: the target is neither above itself nor its own tie.
        if excluded.allowed is not None:
            scores[:, :, ~excluded.allowed[start:end]] = torch.nan
        mine = target_order[target_cuts[tile] : target_cuts[tile + 1]]
        scores[:, mine, targets[mine] - start] = torch.nan
        ranks += (scores > at_target).sum(-1)
        ties += (scores == at_target).sum(-1)
    return ranks, ties


def _scores(queries: Tensor, items: Tensor) -> Tensor:
    """Scores [R, B, t] of a tile of items [K, t, d], at least in fp32; the last = the mean."""
    if queries.dtype in (torch.float16, torch.bfloat16):
        queries, items = queries.float(), items.float()
    branches, users, _ = queries.shape
    scores = queries.new_empty(rankings(branches), users, items.shape[1])
    torch.bmm(queries, items.transpose(1, 2), out=scores[:branches])
    if branches > 1:
        torch.mean(scores[:-1], dim=0, out=scores[-1])
    return scores


def _tiles(n_items: int, columns: int) -> list[int]:
    """Bounds of equally wide tiles over the items 1..n_items-1, none much narrower."""
    columns = max(columns, _FEWEST_COLUMNS)
    count = max(1, -(-(n_items - 1) // columns))
    return [1 + (n_items - 1) * tile // count for tile in range(count + 1)]
