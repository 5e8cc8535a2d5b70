"""Top-k: checks and backend."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.launch.backends import choose_backend
from odmt_fast.kernels.launch.catalogue import check_excluded, check_values, excluded
from odmt_fast.kernels.launch.checks import check_alike, check_floating
from odmt_fast.kernels.launch.operator import Operator
from odmt_fast.kernels.top_k import reference, tiled
from odmt_fast.kernels.top_k.configs import limit

OP = "top_k"

# Scores of one tile of the torch operators.
_TILE_BYTES = 64 << 20


def top_k(
    queries: Tensor,
    items: Tensor,
    k: int,
    history_offsets: Tensor,
    history: Tensor,
    *,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The k items with the highest inner product with each user, best first.

    Args:
        queries: [B, D] user vectors, floating.
        items: [n, D] item vectors, same dtype; row 0 is padding and never returned.
        k: items per user, at least 1.
        history_offsets: int32 or int64 [B + 1], CSR offsets of `history`.
        history: int32 or int64 [H], items left out for each user, in any order; 0 is padding.
        allowed: bool [n], the items that may be returned to anybody; None = all.

    Returns:
        ids: int64 [B, k], rows of `items`, of equal scores the lower first; -1 where fewer than k
            items are left.
        scores: [B, k] in the vectors' dtype, at least float32; -inf there.

    Raises:
        ValueError: a shape, dtype or device does not fit, k is below 1, an item does not exist, the
            offsets are no CSR, or a vector is not finite; with the argument and the value.

    Source:
        DESIGN identity 7.
    """
    _check(queries, items, k, history_offsets, history, allowed)
    ids, scores = _operator(queries, items, history_offsets, history, allowed, k)
    return ids, scores


def _run(
    queries: Tensor,
    items: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    allowed: Tensor | None,
    k: int,
) -> tuple[Tensor, Tensor]:
    queries, items = queries.detach(), items.detach()
    backend = choose_backend(OP, queries.device.type, queries.dtype, limit(k), fallback="tiled")
    # The C++ checks items on its way through them.
    vectors = {"queries": queries} if backend == "cpu" else {"queries": queries, "items": items}
    check_values(OP, items.shape[0], history_offsets, history, None, vectors)
    if queries.shape[0] == 0 or backend == "reference":
        return reference.top_k(queries, items, k, history_offsets, history, allowed)
    out = excluded(history_offsets, history, allowed, items.shape[0])
    if backend == "tiled":
        return tiled.top_k(queries, items, k, out, _TILE_BYTES)
    if backend == "cpu":
        from odmt_fast.kernels.top_k import cpu

        return cpu.top_k(queries, items, k, out)
    from odmt_fast.kernels.top_k.fwd import top_k_fwd

    return top_k_fwd(queries, items, k, out)


def _like(
    queries: Tensor,
    items: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    allowed: Tensor | None,
    k: int,
) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], k)
    dtype = torch.promote_types(queries.dtype, torch.float32)
    return queries.new_empty(shape, dtype=torch.int64), queries.new_empty(shape, dtype=dtype)


_operator = Operator(
    name=OP,
    signature="Tensor queries, Tensor items, Tensor history_offsets, Tensor history, "
    "Tensor? allowed, int k",
    forward=_run,
    like=_like,
    results=2,
)


def _check(
    queries: Tensor,
    items: Tensor,
    k: int,
    history_offsets: Tensor,
    history: Tensor,
    allowed: Tensor | None,
) -> None:
    if k < 1:
        raise ValueError(f"{OP}: k must be at least 1, got {k}")
    if queries.dim() != 2:
        raise ValueError(f"{OP}: queries must be floating [B, D], got {list(queries.shape)}")
    check_floating(OP, "queries", queries)
    if items.dim() != 2 or items.shape[1] != queries.shape[1] or items.shape[0] == 0:
        raise ValueError(
            f"{OP}: items must be [n, D={queries.shape[1]}] with a row 0 for padding, got "
            f"{list(items.shape)}"
        )
    check_alike(OP, "items", items, "queries", queries)
    check_excluded(OP, queries, items, history_offsets, history, allowed)
