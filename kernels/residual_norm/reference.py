"""LN(residual + dropout(x)) in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from odmt_fast.kernels.dropout.reference import dropout_reference


def residual_norm_reference(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """LayerNorm over the last axis of residual + dropout(x); arguments as in `op.residual_norm`.

    Statistics and affine map are in float32 (float64 for float64), the sum in x's dtype.
    """
    statistics = torch.promote_types(x.dtype, torch.float32)
    count = 1 if weight.dim() == 1 else len(weight)
    if dropout > 0.0 and seed is not None:
        x = dropout_reference(x, dropout, seed, count)
    total = (residual + x).to(statistics)
    normal = F.layer_norm(total, total.shape[-1:], eps=eps)
    groups = normal.view(count, -1, normal.shape[-1])
    weight, bias = (w.view(count, 1, -1).to(statistics) for w in (weight, bias))
    return (groups * weight + bias).view(x.shape).to(x.dtype)
