"""feed_forward on a GPU: cuBLAS's products, the ReLU at the end of one, and what lies between."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from odmt_fast.kernels.feed_forward.bwd import relu_bwd
from odmt_fast.kernels.linear.products import (
    bias_gradient,
    groups_of,
    input_gradient,
    weight_gradient,
)
from odmt_fast.kernels.linear.reference import linear_reference


def forward(
    x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """(y [R, d], hidden [R, h] after the ReLU), both in the dtype of x, also under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        hidden = _relu_product(x, up, up_bias)
        return linear_reference(hidden, down, down_bias), hidden


def backward(
    dy: Tensor, x: Tensor, hidden: Tensor, up: Tensor, down: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, up, up_bias, down, down_bias; those of weights and biases in fp32."""
    ddown_bias = bias_gradient(dy, down, torch.float32)
    dx, dup, dup_bias, ddown = through_relu(dy, x, hidden, up, down)
    return dx, dup, dup_bias, ddown, ddown_bias


def through_relu(
    dy: Tensor, x: Tensor, hidden: Tensor, up: Tensor, down: Tensor, onto: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, up, up_bias, down; that of x added to `onto`, in place, if given."""
    ddown = weight_gradient(dy, hidden, down, torch.float32)
    dhidden = input_gradient(dy, down)
    dup_bias = relu_bwd(dhidden, hidden, groups_of(up)).view(up.shape[:-1])
    dup = weight_gradient(dhidden, x, up, torch.float32)
    return input_gradient(dhidden, up, onto), dup, dup_bias, ddown


def _relu_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.dim() == 2 and _one_product_runs(x.device, x.dtype):
        return torch._addmm_activation(bias, x, weight.t())
    return linear_reference(x, weight, bias).relu_()


@cache
def _one_product_runs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has relu(b + x W) as one product here, and it computes what it should.

    The entry is private to torch, and ends in cuBLASLt's epilogue on a GPU.
    """
    x = torch.eye(16, device=device, dtype=dtype)
    weight = torch.arange(-128.0, 128.0, device=device, dtype=torch.float32).view(16, 16).to(dtype)
    bias = torch.arange(16.0, device=device, dtype=torch.float32).to(dtype)
    try:
        return torch.equal(torch._addmm_activation(bias, x, weight), (weight + bias).relu())
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
