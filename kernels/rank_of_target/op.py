"""Rank of the target: checks and backend."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.launch.backends import choose_backend
from odmt_fast.kernels.launch.catalogue import (
    check_entries,
    check_excluded,
    check_values,
    excluded,
)
from odmt_fast.kernels.launch.checks import check_alike, check_floating
from odmt_fast.kernels.launch.operator import Operator
from odmt_fast.kernels.rank_of_target import reference, tiled
from odmt_fast.kernels.rank_of_target.reference import Repeats, rankings

OP = "rank_of_target"

# Scores of one tile of the torch operators: what stays in a core's cache; enough to fill a GPU.
_TILE_BYTES = {"cpu": 1 << 20, "cuda": 256 << 20}


def rank_of_target(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    *,
    allowed: Tensor | None = None,
    repeats: Repeats = "rank",
) -> tuple[Tensor, Tensor]:
    """Counts the items above each user's target, per branch and for the mean of the branches.

    Args:
        queries: [K, B, d] user states, floating.
        items: [K, n, d] item embeddings, same dtype; row 0 is padding and never counts.
        targets: int64 [B], rows of `items`, in 1..n-1.
        history_offsets: int32 or int64 [B + 1], CSR offsets of `history`.
        history: int32 or int64 [H], items left out for each user, in any order; 0 is padding.
        allowed: bool [n], the items that count for anybody; None = all. A target that is not
            allowed is ranked among those that are.
        repeats: a target inside its own history is ranked ("rank") or scores -inf ("miss").

    Returns:
        ranks: int64 [R, B], 1 + #{score > target's}. R is K + 1, the last row the ensemble; of a
            single branch the ensemble is the branch, and R is 1.
        ties: int64 [R, B], the other items whose score equals the target's.

    Raises:
        ValueError: a shape, dtype, device or option does not fit, an item does not exist, the
            offsets are no CSR, or a vector is not finite; with the argument and the value.

    Source:
        DESIGN identity 6; official utils/metrics.py::metrics_topK.
    """
    _check(queries, items, targets, history_offsets, history, allowed, repeats)
    ranks, ties = _operator(queries, items, targets, history_offsets, history, allowed, repeats)
    return ranks, ties


def _run(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    allowed: Tensor | None,
    repeats: Repeats,
) -> tuple[Tensor, Tensor]:
    device, n_items = queries.device.type, items.shape[1]
    queries, items = queries.detach(), items.detach()
    backend = choose_backend(OP, device, queries.dtype, fallback="tiled")
    # The C++ checks items on its way through them.
    vectors = {"queries": queries} if backend == "cpu" else {"queries": queries, "items": items}
    check_values(OP, n_items, history_offsets, history, targets, vectors)
    if queries.shape[1] == 0:
        ranks = targets.new_empty(rankings(queries.shape[0]), 0)
        return ranks, ranks.clone()
    if backend == "reference":
        return reference.rank_of_target(
            queries, items, targets, history_offsets, history, repeats, allowed
        )
    out = excluded(history_offsets, history, allowed, n_items)
    if backend == "tiled":
        tile = _TILE_BYTES.get(device, _TILE_BYTES["cuda"])
        return tiled.rank_of_target(queries, items, targets, out, repeats, tile)
    if backend == "cpu":
        from odmt_fast.kernels.rank_of_target import cpu

        return cpu.rank_of_target(queries, items, targets, out, repeats)
    from odmt_fast.kernels.rank_of_target.fwd import rank_of_target_fwd

    return rank_of_target_fwd(queries, items, targets, out, repeats)


def _like(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    allowed: Tensor | None,
    repeats: str,
) -> tuple[Tensor, Tensor]:
    shape = (rankings(queries.shape[0]), queries.shape[1])
    ranks = queries.new_empty(shape, dtype=torch.int64)
    return ranks, torch.empty_like(ranks)


_operator = Operator(
    name=OP,
    signature="Tensor queries, Tensor items, Tensor targets, Tensor history_offsets, "
    "Tensor history, Tensor? allowed, str repeats",
    forward=_run,
    like=_like,
    results=2,
)


def _check(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    allowed: Tensor | None,
    repeats: str,
) -> None:
    if queries.dim() != 3 or queries.shape[0] == 0 or not queries.is_floating_point():
        raise ValueError(
            f"{OP}: queries must be floating [K, B, d] with K >= 1, got {queries.dtype} "
            f"{list(queries.shape)}"
        )
    check_floating(OP, "queries", queries)
    branches, users, width = queries.shape
    if items.dim() != 3 or (items.shape[0], items.shape[2]) != (branches, width):
        raise ValueError(
            f"{OP}: items must be [K={branches}, n, d={width}], got {list(items.shape)}"
        )
    if items.shape[1] == 0:
        raise ValueError(f"{OP}: items must have a row 0 for padding, got {list(items.shape)}")
    check_alike(OP, "items", items, "queries", queries)
    check_entries(OP, "targets", targets, (torch.int64,), users, queries)
    check_excluded(OP, queries, items, history_offsets, history, allowed)
    if repeats not in ("rank", "miss"):
        raise ValueError(f"{OP}: repeats must be 'rank' or 'miss', got {repeats!r}")
