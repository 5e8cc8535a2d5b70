"""feed_forward on the CPU: the products of `kernels.linear`, and one pass for what lies between.

torch's own relu, its backward and the bias gradients walk [R, 4 d] five times; here the ReLU is the
end of a product or one pass, and ReLU backward + bias gradient another, both in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.launch.dry import run
from odmt_fast.kernels.linear.cpu import (
    bias_gradient,
    grouped,
    groups_of,
    input_gradient,
    weight_gradient,
)
from odmt_fast.kernels.linear.cpu import forward as linear_forward

# Large enough for products at full rate, small enough to count little beside what is saved.
_PART_ROWS = 4096


def forward(
    x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """(y [R, d], hidden [R, h] after the ReLU)."""
    hidden = linear_forward(x, up, up_bias, relu=True)
    return linear_forward(hidden, down, down_bias), hidden


def backward(
    dy: Tensor, x: Tensor, hidden: Tensor, up: Tensor, down: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, up, up_bias, down, down_bias; those of many rows' up and up_bias in fp32.

    The gradient of the activation exists for `_PART_ROWS` rows at a time: of all rows it would be
    the largest tensor of the backward.
    """
    ddown, ddown_bias = weight_gradient(dy, hidden, down), bias_gradient(dy, down)
    if dy.shape[0] <= _PART_ROWS:
        return *_through_relu(dy, x, hidden, up, down), ddown, ddown_bias
    dx = torch.empty_like(x)
    dup = torch.zeros(up.shape, dtype=torch.float32)
    dup_bias = torch.zeros(up.shape[:-1], dtype=torch.float32)
    groups = groups_of(up)
    of_rows = [grouped(t, groups) for t in (dy, x, hidden, dx)]
    of_weights = [
        up.view(groups, *up.shape[-2:]),
        down.view(groups, *down.shape[-2:]),
        dup.view(groups, *up.shape[-2:]),
        dup_bias.view(groups, -1),
    ]
    for *rows, u, d, du, da in zip(*of_rows, *of_weights, strict=True):
        for part in zip(*(torch.split(t, _PART_ROWS) for t in rows), strict=True):
            dy_part, x_part, hidden_part, dx_part = part
            dx_rows, du_rows, da_rows = _through_relu(dy_part, x_part, hidden_part, u, d)
            dx_part.copy_(dx_rows)
            du.add_(du_rows)
            da.add_(da_rows)
    return dx, dup, dup_bias, ddown, ddown_bias


def _through_relu(
    dy: Tensor, x: Tensor, hidden: Tensor, up: Tensor, down: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, up, up_bias."""
    groups = groups_of(up)
    dhidden = input_gradient(dy, down)
    dup_bias = torch.empty(groups, hidden.shape[1], dtype=torch.float32)
    for part, activation, total in zip(
        grouped(dhidden, groups),
        grouped(hidden, groups),
        dup_bias,
        strict=True,
    ):
        run(
            _C.relu_backward_bias,
            x.dtype == torch.bfloat16,
            *part.shape,
            part.data_ptr(),
            activation.data_ptr(),
            total.data_ptr(),
            torch.get_num_threads(),
        )
    dup = weight_gradient(dhidden, x, up)
    return input_gradient(dhidden, up), dup, dup_bias.view(up.shape[:-1])
