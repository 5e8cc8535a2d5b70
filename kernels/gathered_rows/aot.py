"""Launches of the gathered_rows kernels compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.gathered_rows.bwd import row_sums
from odmt_fast.kernels.launch.aot import AotCase, meta

BRANCHES, STEPS, WIDTH = 3, 1_536, 768


def _launch(n: int, table: torch.dtype) -> None:
    row_sums(meta(BRANCHES * STEPS, WIDTH), meta(STEPS, dtype=torch.int64), BRANCHES, n, table)


AOT_CASES = (
    AotCase("784 items bf16", lambda: _launch(784, torch.bfloat16), official=True),
    AotCase("12 positions of bf16 in fp32", lambda: _launch(12, torch.float32), official=True),
)
