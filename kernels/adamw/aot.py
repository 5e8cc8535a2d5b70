"""Launches of the adamw kernels compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.adamw.configs import REVIEWED
from odmt_fast.kernels.adamw.passes import adamw_passes
from odmt_fast.kernels.adamw.tables import Layout
from odmt_fast.kernels.launch.aot import AotCase, meta


def _launch(copy: torch.dtype, scaled: bool, aligned: bool) -> None:
    tensors, elements = 100, 62_600_000
    places = Layout(
        meta(3, tensors, dtype=torch.int64),
        meta(-(-elements // REVIEWED.block), dtype=torch.int32),
    )
    adamw_passes(
        meta(5, tensors, dtype=torch.int64),
        aligned,
        places,
        meta(tensors, dtype=torch.float32),
        meta(1, 5, dtype=torch.float64),
        5.0,
        meta(1, dtype=torch.float32) if scaled else None,
        copy,
    )


AOT_CASES = (
    AotCase(
        "62.6 M weights in 100 tensors, copy bf16",
        lambda: _launch(torch.bfloat16, False, True),
        official=True,
    ),
    AotCase(
        "62.6 M weights in 100 tensors, copy fp16, loss scaled",
        lambda: _launch(torch.float16, True, True),
        architectures=(80, 90),
    ),
    AotCase(
        "62.6 M weights in 100 tensors, not aligned",
        lambda: _launch(torch.bfloat16, False, False),
        architectures=(80, 90),
    ),
)
