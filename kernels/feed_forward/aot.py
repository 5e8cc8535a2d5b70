"""Launches of the feed_forward kernel compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.feed_forward.bwd import relu_bwd
from odmt_fast.kernels.launch.aot import AotCase, meta


def _launch(rows: int, hidden: int, groups: int, dtype: torch.dtype) -> None:
    x = meta(rows, hidden, dtype=dtype)
    relu_bwd(x, x, groups)


AOT_CASES = (
    AotCase(
        "items 722 x 69 x 3072 bf16",
        lambda: _launch(722 * 69, 3072, 1, torch.bfloat16),
        official=True,
    ),
    AotCase(
        "users 3 x 1536 x 3072 bf16",
        lambda: _launch(3 * 1536, 3072, 3, torch.bfloat16),
        architectures=(80, 90),
    ),
    AotCase(
        "items 722 x 69 x 3072 fp32",
        lambda: _launch(722 * 69, 3072, 1, torch.float32),
        architectures=(80, 90),
    ),
)
