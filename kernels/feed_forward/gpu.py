"""feed_forward on a GPU: cuBLAS's products, the ReLU at the end of one, and what lies between."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from odmt_fast.kernels.feed_forward.bwd import relu_bwd
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
    """Gradients of x, up, up_bias, down, down_bias; those of the biases in fp32."""
    groups = up.shape[0] if up.dim() == 3 else 1
    ddown = _weight_gradient(dy, hidden, down)
    ddown_bias = dy.view(groups, -1, dy.shape[1]).sum(1, dtype=torch.float32)
    dhidden = linear_reference(dy, down.transpose(-1, -2))
    dup_bias = relu_bwd(dhidden, hidden, groups)
    dup = _weight_gradient(dhidden, x, up)
    dx = linear_reference(dhidden, up.transpose(-1, -2))
    return dx, dup, dup_bias.view(up.shape[:-1]), ddown, ddown_bias.view(down.shape[:-1])


def _weight_gradient(dy: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """dy^T x in the shape of `weight`, contiguous, so that no gradient is copied."""
    if weight.dim() == 2:
        return dy.t() @ x
    groups = weight.shape[0]
    rows, of_rows = (t.view(groups, -1, t.shape[1]) for t in (dy, x))
    return torch.bmm(rows.transpose(1, 2), of_rows)


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
