"""feed_forward on the CPU: the products of `kernels.linear`, and one pass for what lies between.

torch's own relu, its backward and the bias gradients walk [R, 4 d] five times; here the ReLU is the
end of a product or one pass, and ReLU backward + bias gradient another, both in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.linear.cpu import (
    bias_gradient,
    groups_of,
    input_gradient,
    weight_gradient,
)
from odmt_fast.kernels.linear.cpu import forward as linear_forward


def forward(
    x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """(y [R, d], hidden [R, h] after the ReLU)."""
    hidden = linear_forward(x, up, up_bias, relu=True)
    return linear_forward(hidden, down, down_bias), hidden


def backward(
    dy: Tensor, x: Tensor, hidden: Tensor, up: Tensor, down: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, up, up_bias, down, down_bias."""
    groups = groups_of(up)
    ddown = weight_gradient(dy, hidden, down)
    dhidden = input_gradient(dy, down)
    dup_bias = torch.empty(groups, hidden.shape[1])
    for part, activation, total in zip(
        dhidden.view(groups, -1, hidden.shape[1]),
        hidden.view(groups, -1, hidden.shape[1]),
        dup_bias,
        strict=True,
    ):
        _C.relu_backward_bias(
            x.dtype == torch.bfloat16,
            *part.shape,
            part.data_ptr(),
            activation.data_ptr(),
            total.data_ptr(),
            torch.get_num_threads(),
        )
    dup = weight_gradient(dhidden, x, up)
    dx = input_gradient(dhidden, up)
    return (
        dx,
        dup,
        dup_bias.view(up.shape[:-1]).to(x.dtype),
        ddown,
        bias_gradient(dy, down),
    )
