"""The three products of grouped linear maps by torch, for every device.

Autograd's own backward of a batched product leaves the weight gradient transposed, and
AccumulateGrad then copies it once more; here it is written as the weight lies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.linear.libraries import bmm
from odmt_fast.kernels.linear.reference import linear_reference
from odmt_fast.kernels.linear.row_products import sum_of_row_products


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b of G groups: arguments and result of `linear_reference`, weight [G, b, a]."""
    return _Grouped.apply(x, weight, bias)  # type: ignore[no-untyped-call]


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return linear_reference(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        dy = dy.reshape(len(weight), -1, weight.shape[1])
        dx = bmm(dy, weight).view(x.shape) if wants_x else None
        rows = x.reshape(len(weight), -1, weight.shape[2])
        dweight = sum_of_row_products(dy, rows) if wants_weight else None
        return dx, dweight, dy.sum(1) if wants_bias else None
