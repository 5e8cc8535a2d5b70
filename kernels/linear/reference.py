"""The law of `linear`: plain torch, any dtype, autograd does the gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [R, a] W^T + bias -> [R, b]; weights [b, a], or [G, b, a] for G equal groups of rows."""
    if weight.dim() == 2:
        return F.linear(x, weight, bias)
    groups, b, a = weight.shape
    rows = x.reshape(groups, x.shape[0] // groups, a)
    if bias is None:
        return (rows @ weight.transpose(1, 2)).view(x.shape[0], b)
    return torch.baddbmm(bias[:, None], rows, weight.transpose(1, 2)).view(x.shape[0], b)
