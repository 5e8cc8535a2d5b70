"""The three products of a linear map on the CPU, by the library that `libraries` found best.

oneDNN's own linear map ends in the ReLU. Sums over the rows (bias gradients) are one pass in C++.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.launch.dry import run
from odmt_fast.kernels.linear.libraries import current, narrow
from odmt_fast.kernels.linear.reference import linear_reference
from odmt_fast.kernels.linear.row_products import sum_of_row_products

# A new number of rows costs oneDNN about a millisecond to make its kernel, the time of this many
# multiply-adds in fp32; below, MKL is done earlier.
_ONEDNN_WORK = 200_000_000
# Large enough that a product of so many rows runs at full rate; of 4,096 and narrow weights oneDNN
# lets each thread sum a share, and the bits depend on their number.
_COPIED_ROWS = 1024


def _fp32_by_onednn(x: Tensor, weight: Tensor) -> bool:
    work = x.shape[0] * weight.shape[-1] * weight.shape[-2]
    return x.dtype == torch.float32 and work >= _ONEDNN_WORK and current().fp32_by_onednn


def groups_of(weight: Tensor) -> int:
    """G of [G, b, a]; 1 of [b, a]."""
    return weight.shape[0] if weight.dim() == 3 else 1


def grouped(x: Tensor, groups: int) -> tuple[Tensor, ...]:
    """The rows of each group."""
    return x.view(groups, -1, x.shape[1]).unbind(0)


def _onednn_product(x: Tensor, weight: Tensor, bias: Tensor | None, epilogue: str) -> Tensor:
    """x W^T + b, then the epilogue "none" or "relu"; weight [b, a], or [G, b, a] for G groups."""

    def one(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, epilogue, [], "")

    if weight.dim() == 2:
        return one(x, weight, bias)
    groups = weight.shape[0]
    biases = [None] * groups if bias is None else bias.unbind(0)
    rows = grouped(x, groups)
    return torch.cat([one(*part) for part in zip(rows, weight.unbind(0), biases, strict=True)])


def forward(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> Tensor:
    """x W^T + b [R, b], then max(., 0) if asked; arguments of `linear_reference`, x contiguous."""
    if narrow(x):
        y = forward(x.float(), weight.float(), None if bias is None else bias.float(), relu=relu)
        return y.to(x.dtype)
    single_bf16 = x.dtype == torch.bfloat16 and weight.dim() == 2 and current().bf16_by_onednn
    if single_bf16 or _fp32_by_onednn(x, weight):
        return _onednn_product(x, weight, bias, "relu" if relu else "none")
    y = linear_reference(x, weight, bias)
    if relu:
        run(_C.relu, y.dtype == torch.bfloat16, *y.shape, y.data_ptr(), torch.get_num_threads())
    return y


def input_gradient(dy: Tensor, weight: Tensor) -> Tensor:
    """dy [R, b] W -> [R, a]."""
    if narrow(dy):
        return input_gradient(dy.float(), weight.float()).to(dy.dtype)
    if _fp32_by_onednn(dy, weight):
        return _onednn_product(dy, weight.transpose(-1, -2), None, "none")
    return linear_reference(dy, weight.transpose(-1, -2))


def weight_gradient(dy: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """dy^T x in the shape of `weight`, whose values do not count; dy [R, b], x [R, a].

    In fp32 where products of bf16 are computed in it.
    """
    if narrow(dy):
        return weight_gradient(dy.float(), x.float(), weight.float())
    if _fp32_by_onednn(dy, weight):
        if weight.dim() == 2:
            return _onednn_weight_gradient(dy, x, weight)
        groups = weight.shape[0]
        parts = zip(grouped(dy, groups), grouped(x, groups), weight.unbind(0), strict=True)
        return torch.stack([_onednn_weight_gradient(*part) for part in parts])
    groups = groups_of(weight)
    dy, x = dy.view(groups, -1, dy.shape[1]), x.view(groups, -1, x.shape[1])
    return sum_of_row_products(dy, x).view(weight.shape)


def _onednn_weight_gradient(dy: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The operator takes oneDNN's own tensors: copies, which are made of some rows at a time."""
    total: Tensor | None = None
    for left, right in zip(
        torch.split(dy, _COPIED_ROWS), torch.split(x, _COPIED_ROWS), strict=True
    ):
        gradient, _ = torch.ops.aten.mkldnn_linear_backward_weights(
            left.to_mkldnn(), right.to_mkldnn(), weight, False
        )
        dense = gradient.to_dense()
        total = dense if total is None else total.add_(dense)
    assert total is not None
    return total


def bias_gradient(dy: Tensor, weight: Tensor) -> Tensor:
    """Column sums of dy [R, b] in each group of `weight`, [b] or [G, b] in fp32."""
    sums = torch.empty(groups_of(weight), dy.shape[1], dtype=torch.float32)
    for part, total in zip(grouped(dy, len(sums)), sums, strict=True):
        run(
            _C.column_sum,
            dy.dtype == torch.bfloat16,
            *part.shape,
            part.data_ptr(),
            total.data_ptr(),
            torch.get_num_threads(),
        )
    return sums.view(weight.shape[:-1])
