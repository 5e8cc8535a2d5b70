"""feed_forward on the CPU: matmuls by torch, everything between them in one pass each, in C++.

torch's own relu, its backward and the bias gradients walk [R, 4 d] five times; here the ReLU is one
pass, and ReLU backward + bias gradient another, both in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.feed_forward.reference import rowwise_linear


def _groups(weight: Tensor) -> int:
    return 1 if weight.dim() == 2 else weight.shape[0]


def _transposed_matmul(dy: Tensor, weight: Tensor) -> Tensor:
    """dy [R, b], weight [b, a] or [G, b, a] -> dy W [R, a]."""
    if weight.dim() == 2:
        return dy @ weight
    return (dy.view(weight.shape[0], -1, dy.shape[1]) @ weight).view(dy.shape[0], -1)


def _weight_gradient(dy: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient of `weight`, in its shape and the dtype of dy."""
    if weight.dim() == 2:
        return dy.t() @ x
    groups = weight.shape[0]
    dy, x = dy.view(groups, -1, dy.shape[1]), x.view(groups, -1, x.shape[1])
    return dy.transpose(1, 2) @ x


def _column_sums(x: Tensor, groups: int) -> Tensor:
    """fp32 [G, width] column sums of the groups of rows of x [R, width]."""
    sums = torch.empty(groups, x.shape[1])
    for part, total in zip(x.view(groups, -1, x.shape[1]), sums, strict=True):
        _C.column_sum(
            x.dtype == torch.bfloat16,
            *part.shape,
            part.data_ptr(),
            total.data_ptr(),
            torch.get_num_threads(),
        )
    return sums


def forward(
    x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """(y [R, d], hidden [R, h] after the ReLU)."""
    hidden = rowwise_linear(x, up, up_bias)
    _C.relu(x.dtype == torch.bfloat16, *hidden.shape, hidden.data_ptr(), torch.get_num_threads())
    return rowwise_linear(hidden, down, down_bias), hidden


def backward(
    dy: Tensor, x: Tensor, hidden: Tensor, up: Tensor, down: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, up, up_bias, down, down_bias."""
    groups, threads = _groups(up), torch.get_num_threads()
    ddown = _weight_gradient(dy, hidden, down)
    dhidden = _transposed_matmul(dy, down)
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
            threads,
        )
    dup = _weight_gradient(dhidden, x, up)
    dx = _transposed_matmul(dhidden, up)
    bias_shape = up.shape[:-2]
    return (
        dx,
        dup,
        dup_bias.view(*bias_shape, -1).to(x.dtype),
        ddown,
        _column_sums(dy, groups).view(*bias_shape, -1).to(x.dtype),
    )
