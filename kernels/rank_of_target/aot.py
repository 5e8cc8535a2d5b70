"""Launches of the ranking kernels compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.launch.aot import AotCase, meta
from odmt_fast.kernels.launch.catalogue import Excluded
from odmt_fast.kernels.rank_of_target.fwd import rank_of_target_fwd

USERS, ITEMS, HISTORY = 512, 100_000, 8192


def excluded(allowed: bool) -> Excluded:
    """The histories of USERS users, and a list of allowed items."""
    offsets, history = meta(USERS + 1, dtype=torch.int64), meta(HISTORY, dtype=torch.int64)
    return Excluded(offsets, history, meta(ITEMS, dtype=torch.bool) if allowed else None)


def _launch(branches: int, width: int, dtype: torch.dtype, allowed: bool) -> None:
    queries, items = (meta(branches, rows, width, dtype=dtype) for rows in (USERS, ITEMS))
    targets = meta(USERS, dtype=torch.int64)
    rank_of_target_fwd(queries, items, targets, excluded(allowed), "rank")


AOT_CASES = (
    AotCase("K = 3, width 768, fp32", lambda: _launch(3, 768, torch.float32, False), official=True),
    AotCase(
        "K = 3, width 768, bf16, allowed items",
        lambda: _launch(3, 768, torch.bfloat16, True),
        architectures=(80, 90),
    ),
    AotCase(
        "K = 1, width 64, fp32",
        lambda: _launch(1, 64, torch.float32, False),
        architectures=(80, 90),
    ),
)
