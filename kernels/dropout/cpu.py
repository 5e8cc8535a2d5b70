"""Dropout in C++ (csrc/residual_norm.inl), and how the CPU kernels are told about dropout."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.dropout.reference import kept_scale, threshold
from odmt_fast.kernels.launch.dry import run

DropoutArgument = tuple[int, float, int, int]
"""(threshold, scale of the kept values, address and length of the seed); address 0 = no dropout."""


def dropout_argument(p: float, seed: Tensor | None) -> DropoutArgument:
    """What the extension wants to know about dropout; `seed` must outlive the call."""
    if p == 0.0 or seed is None:
        return 0, 1.0, 0, 0
    return threshold(p), kept_scale(p), seed.data_ptr(), seed.numel()


def apply(x: Tensor, p: float, seed: Tensor, groups: int) -> Tensor:
    """`op.dropout` of a contiguous float32 or bfloat16 tensor; also its own gradient."""
    y = torch.empty_like(x)
    run(
        _C.dropout,
        x.dtype == torch.bfloat16,
        x.numel() // groups,
        groups,
        x.data_ptr(),
        y.data_ptr(),
        dropout_argument(p, seed),
        torch.get_num_threads(),
    )
    return y
