"""Rank of the target: checks, backend, custom op.

One implementation made of torch operators, `tiled`, serves every device, so there is nothing for
``ODMT_FAST_BACKEND=cpu|triton|cuda`` to choose; ``reference`` runs the plain one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from odmt_fast.kernels.backend import Missing, choose, runs_anywhere
from odmt_fast.kernels.rank_of_target import reference, tiled
from odmt_fast.kernels.rank_of_target.reference import Repeats

CANDIDATES: Mapping[str, Missing] = {"tiled": runs_anywhere, "reference": runs_anywhere}

# Scores of one tile: what stays in a core's cache; enough columns to fill a GPU.
_TILE_BYTES = {"cpu": 1 << 20, "cuda": 256 << 20}


def rank_of_target(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    *,
    repeats: Repeats = "rank",
) -> tuple[Tensor, Tensor]:
    """Counts the items above each user's target, per branch and for the mean of the branches.

    Args:
        queries: [K, B, d] user states, floating.
        items: [K, n, d] item embeddings, same dtype; row 0 is padding and never counts.
        targets: int64 [B], rows of `items`, in 1..n-1.
        history_offsets: int32 or int64 [B + 1], CSR offsets of `history`.
        history: int32 or int64 [H], items left out for each user, in any order.
        repeats: a target inside its own history is ranked ("rank") or scores -inf ("miss").

    Returns:
        ranks: int64 [K + 1, B], 1 + #{score > target's}; the last row is the ensemble.
        ties: int64 [K + 1, B], the other items whose score equals the target's.

    Raises:
        ValueError: a shape, dtype or option does not fit.

    Source:
        DESIGN identity 6; official utils/metrics.py::metrics_topK.
    """
    _check(queries, items, targets, history_offsets, history, repeats)
    if torch.compiler.is_compiling():
        ranks, ties = _rank_op(queries, items, targets, history_offsets, history, repeats)
        return ranks, ties
    return _run(queries, items, targets, history_offsets, history, repeats)


def _run(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    repeats: Repeats,
) -> tuple[Tensor, Tensor]:
    device = queries.device.type
    arguments = (queries.detach(), items.detach(), targets, history_offsets, history, repeats)
    if choose("rank_of_target", device, CANDIDATES) == "reference":
        return reference.rank_of_target(*arguments)
    return tiled.rank_of_target(*arguments, _TILE_BYTES.get(device, _TILE_BYTES["cuda"]))


@torch.library.custom_op("odmt_fast::rank_of_target", mutates_args=())
def _rank_op(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    repeats: str,
) -> tuple[Tensor, Tensor]:
    return _run(
        queries,
        items,
        targets,
        history_offsets,
        history,
        "miss" if repeats == "miss" else "rank",
    )


@_rank_op.register_fake
def _(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    repeats: str,
) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0] + 1, queries.shape[1])
    ranks = queries.new_empty(shape, dtype=torch.int64)
    return ranks, torch.empty_like(ranks)


def _check(
    queries: Tensor,
    items: Tensor,
    targets: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    repeats: str,
) -> None:
    if queries.dim() != 3 or not queries.is_floating_point():
        raise ValueError(
            f"queries must be floating [K, B, d], got {queries.dtype} {tuple(queries.shape)}"
        )
    branches, users, width = queries.shape
    if items.dim() != 3 or (items.shape[0], items.shape[2]) != (branches, width):
        raise ValueError(f"items must be [K={branches}, n, d={width}], got {tuple(items.shape)}")
    if items.dtype != queries.dtype:
        raise ValueError(f"items must be {queries.dtype} like queries, got {items.dtype}")
    if targets.shape != (users,) or targets.dtype != torch.int64:
        raise ValueError(
            f"targets must be int64 [B={users}], got {targets.dtype} {tuple(targets.shape)}"
        )
    if history_offsets.shape != (users + 1,) or history.dim() != 1:
        raise ValueError(
            f"history must be a CSR of B={users} users, got offsets "
            f"{tuple(history_offsets.shape)} and values {tuple(history.shape)}"
        )
    if repeats not in ("rank", "miss"):
        raise ValueError(f"repeats={repeats!r} is not a rule; use 'rank' or 'miss'")
