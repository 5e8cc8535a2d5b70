"""Launches of the top-k kernel compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.launch.aot import AotCase, meta
from odmt_fast.kernels.rank_of_target.aot import ITEMS, USERS, excluded
from odmt_fast.kernels.top_k.fwd import top_k_fwd


def _launch(width: int, k: int, dtype: torch.dtype, allowed: bool) -> None:
    queries, items = (meta(rows, width, dtype=dtype) for rows in (USERS, ITEMS))
    top_k_fwd(queries, items, k, excluded(allowed))


AOT_CASES = (
    AotCase(
        "k = 10, width 3 x 768, fp32",
        lambda: _launch(3 * 768, 10, torch.float32, False),
        official=True,
    ),
    AotCase(
        "k = 60, width 3 x 768, bf16, allowed items",
        lambda: _launch(3 * 768, 60, torch.bfloat16, True),
        architectures=(80, 90),
    ),
    AotCase(
        "k = 128, width 64, fp32",
        lambda: _launch(64, 128, torch.float32, False),
        architectures=(80, 90),
    ),
)
