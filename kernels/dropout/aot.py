"""Launches of the dropout kernel compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.dropout.fwd import dropout_fwd
from odmt_fast.kernels.launch.aot import AotCase, meta

SEED = meta(1, dtype=torch.int64)

AOT_CASES = (
    AotCase(
        "722 x 69 x 768 bf16", lambda: dropout_fwd(meta(722 * 69, 768), 0.1, SEED, 1), official=True
    ),
)
