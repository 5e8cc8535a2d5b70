"""Launches of the gather kernel compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.launch.aot import AotCase, meta
from odmt_fast.kernels.table_rows.fwd import table_rows_fwd

AOT_CASES = (
    AotCase(
        "54,107 of 8,000,000 x 768 bf16",
        lambda: table_rows_fwd(meta(8_000_000, 768), meta(54_107, dtype=torch.int64)),
        official=True,
    ),
)
