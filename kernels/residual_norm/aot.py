"""Launches of the residual_norm kernels compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.launch.aot import AotCase, meta
from odmt_fast.kernels.residual_norm.bwd import residual_norm_bwd
from odmt_fast.kernels.residual_norm.fwd import residual_norm_fwd

SEED = meta(1, dtype=torch.int64)


def _launch(rows: int, d: int, groups: int, dtype: torch.dtype, p: float) -> None:
    x = meta(rows, d, dtype=dtype)
    weight = meta(groups, d, dtype=torch.float32)
    statistic = meta(rows, dtype=torch.float32)
    residual_norm_fwd(x, x, weight, weight, 1e-6, p, SEED)
    for sum_dx in (False, True):
        residual_norm_bwd(x, x, statistic, statistic, weight, p, SEED, sum_dx=sum_dx)


AOT_CASES = (
    AotCase(
        "items 722 x 69 x 768 bf16, dropout",
        lambda: _launch(722 * 69, 768, 1, torch.bfloat16, 0.1),
        official=True,
    ),
    AotCase(
        "items 722 x 69 x 768 bf16",
        lambda: _launch(722 * 69, 768, 1, torch.bfloat16, 0.0),
        architectures=(80, 90),
    ),
    AotCase(
        "users 3 x 1536 x 768 bf16",
        lambda: _launch(3 * 1536, 768, 3, torch.bfloat16, 0.0),
        official=True,
    ),
    AotCase(
        "items 722 x 69 x 768 fp32, dropout",
        lambda: _launch(722 * 69, 768, 1, torch.float32, 0.1),
        architectures=(80, 90),
    ),
)
