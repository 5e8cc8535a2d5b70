"""Rank of the target: checks, backend, custom op.

One implementation made of torch operators, `tiled`, serves every device, so there is nothing for
``ODMT_FAST_BACKEND=cpu|triton|cuda`` to choose; ``reference`` runs the plain one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from odmt_fast.kernels.backend import Missing, choose, runs_anywhere
from odmt_fast.kernels.launch.checks import check_alike, check_floating
from odmt_fast.kernels.rank_of_target import reference, tiled
from odmt_fast.kernels.rank_of_target.reference import Repeats

OP = "rank_of_target"
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
        history: int32 or int64 [H], items left out for each user, in any order; 0 is padding.
        repeats: a target inside its own history is ranked ("rank") or scores -inf ("miss").

    Returns:
        ranks: int64 [K + 1, B], 1 + #{score > target's}; the last row is the ensemble.
        ties: int64 [K + 1, B], the other items whose score equals the target's.

    Raises:
        ValueError: a shape, dtype, device or option does not fit, an item does not exist, the
            offsets are no CSR, or a vector is not finite; with the argument and the value.

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
    _check_values(queries.detach(), items.detach(), targets, history_offsets, history)
    if queries.shape[1] == 0:
        ranks = targets.new_empty(queries.shape[0] + 1, 0)
        return ranks, ranks.clone()
    arguments = (queries.detach(), items.detach(), targets, history_offsets, history, repeats)
    if choose(OP, device, CANDIDATES) == "reference":
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
    integers = (torch.int32, torch.int64)
    wanted = {
        "targets": (targets, (torch.int64,), users),
        "history_offsets": (history_offsets, integers, users + 1),
        "history": (history, integers, None),
    }
    for name, (x, dtypes, length) in wanted.items():
        if x.dtype not in dtypes or x.dim() != 1 or length not in (None, x.shape[0]):
            raise ValueError(
                f"{OP}: {name} must be {' or '.join(map(str, dtypes))} "
                f"[{'H' if length is None else length}] for B={users} users, got {x.dtype} "
                f"{list(x.shape)}"
            )
        if x.device != queries.device:
            raise ValueError(f"{OP}: {name} is on {x.device}, queries on {queries.device}")
    if repeats not in ("rank", "miss"):
        raise ValueError(f"{OP}: repeats must be 'rank' or 'miss', got {repeats!r}")


def _check_values(
    queries: Tensor, items: Tensor, targets: Tensor, history_offsets: Tensor, history: Tensor
) -> None:
    """Raises ValueError for what a count would silently get wrong; one wait for the device."""
    n = items.shape[1]
    wrong = {
        "targets": (targets < 1) | (targets >= n),
        "history": (history < 0) | (history >= n),
        "history_offsets": history_offsets.diff() < 0,
        "first offset": history_offsets[0] != 0,
        "last offset": history_offsets[-1] != history.shape[0],
        "queries": ~_extremes(queries).isfinite(),
        "items": ~_extremes(items).isfinite(),
    }
    found = torch.stack([entries.any() for entries in wrong.values()]).tolist()
    for name, is_wrong in zip(wrong, found, strict=True):
        if not is_wrong:
            continue
        if name in ("queries", "items"):
            x = queries if name == "queries" else items
            place = (~x.isfinite()).nonzero()[0].tolist()
            raise ValueError(
                f"{OP}: {name}{place} is {float(x[tuple(place)])}; a rank needs finite vectors, "
                "those of a diverged or damaged model are not"
            )
        if name == "history_offsets":
            user = int(wrong[name].nonzero()[0])
            raise ValueError(
                f"{OP}: history_offsets must ascend, got {int(history_offsets[user])} before "
                f"{int(history_offsets[user + 1])} at user {user}"
            )
        if name in ("targets", "history"):
            values, low = (targets, 1) if name == "targets" else (history, 0)
            entry = int(wrong[name].nonzero()[0])
            raise ValueError(
                f"{OP}: {name}[{entry}] is {int(values[entry])}, not an item of {low}..{n - 1}"
            )
        raise ValueError(
            f"{OP}: history_offsets must run from 0 to H={history.shape[0]}, got "
            f"{int(history_offsets[0])} to {int(history_offsets[-1])}"
        )


def _extremes(x: Tensor) -> Tensor:
    """The smallest and the largest element, both NaN if any is: one pass, no copy."""
    return torch.stack(x.aminmax()) if x.numel() else x.new_zeros(2)
