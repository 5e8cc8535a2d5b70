"""The three products of a linear map by torch, for every device: cuBLAS on a GPU.

Autograd's own backward of a batched product leaves the weight gradient transposed, and
AccumulateGrad then copies it once more; here it is written as the weight lies. And it is written in
the dtype of the master weight where the library can: a product of bf16 is summed in fp32, so that
rounding it to bf16 and casting it back would cost a launch, 6 bytes an element, and the sum.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.linear.copies import cast
from odmt_fast.kernels.linear.libraries import bmm
from odmt_fast.kernels.linear.reference import linear_reference
from odmt_fast.kernels.linear.row_products import sum_of_row_products


def groups_of(weight: Tensor) -> int:
    """G of [G, b, a]; 1 of [b, a]."""
    return weight.shape[0] if weight.dim() == 3 else 1


def input_gradient(dy: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
    """dy [R, b] W -> [R, a], weight [b, a] or [G, b, a]; added to `onto`, in place, if given."""
    if weight.dim() == 2:
        return dy @ weight if onto is None else onto.addmm_(dy, weight)
    rows = dy.reshape(len(weight), -1, weight.shape[1])
    if onto is None:
        return bmm(rows, weight).view(dy.shape[0], weight.shape[2])
    onto.view(len(weight), -1, weight.shape[2]).baddbmm_(rows, weight)
    return onto


def weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """dy^T x in `dtype` and in the shape of `weight`, contiguous; dy [R, b], x [R, a]."""
    groups = groups_of(weight)
    if weight.dim() == 2 and dy.device.type != "cpu":
        return product(dy.t(), x, dtype)
    dy, x = dy.reshape(groups, -1, dy.shape[1]), x.reshape(groups, -1, x.shape[1])
    if dtype != dy.dtype and wide_products_run(dy.device, dy.dtype, dtype):
        return product(dy.transpose(1, 2), x, dtype).view(weight.shape)
    return sum_of_row_products(dy, x).view(weight.shape).to(dtype)


def product(left: Tensor, right: Tensor, dtype: torch.dtype, into: Tensor | None = None) -> Tensor:
    """left right in `dtype`, summed in fp32; both [.., ..], or both [G, .., ..].

    Args:
        left, right: one dtype, any strides.
        dtype: theirs, or the float32 of a bfloat16 or float16 product.
        into: where to write it; None makes a tensor.
    """
    multiply = torch.mm if left.dim() == 2 else torch.bmm
    if dtype == left.dtype:
        return multiply(left, right, out=into)
    if wide_products_run(left.device, left.dtype, dtype):
        return multiply(left, right, out_dtype=dtype, out=into)
    made = multiply(left, right)
    return made.to(dtype) if into is None else into.copy_(made)


def bias_gradient(dy: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Column sums of dy [R, b] in each group of `weight`, [b] or [G, b] in `dtype`."""
    return dy.reshape(*weight.shape[:-2], -1, dy.shape[1]).sum(-2, dtype=dtype)


def written_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b from master weights: arguments and result of `op.linear`."""
    return _Written.apply(x, weight, bias)  # type: ignore[no-untyped-call]


@cache
def wide_products_run(device: torch.device, dtype: torch.dtype, wide: torch.dtype) -> bool:
    """Whether torch has products of `dtype` written in `wide` here, and they are what they should.

    The argument came with torch 2.8, for GPUs alone.
    """
    x = torch.arange(-128.0, 128.0, device=device, dtype=torch.float32).view(16, 16)
    narrow, made = x.to(dtype), torch.empty(2, 16, 16, device=device, dtype=wide)
    try:
        torch.mm(narrow, narrow.t(), out_dtype=wide, out=made[0])
        torch.bmm(narrow[None], narrow.t()[None], out_dtype=wide, out=made[1:])
        return torch.equal(made, (narrow.to(wide) @ narrow.to(wide).t()).expand_as(made))
    except (TypeError, RuntimeError, NotImplementedError):
        return False


class _Written(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, master: Tensor, bias: Tensor | None) -> Tensor:
        weight = cast(master, x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.dtype = master.dtype
        ctx.bias_dtype = None if bias is None else bias.dtype
        return linear_reference(x, weight, None if bias is None else cast(bias, x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        dx = input_gradient(dy, weight) if wants_x else None
        dweight = weight_gradient(dy, x, weight, ctx.dtype) if wants_weight else None
        dbias = bias_gradient(dy, weight, ctx.bias_dtype) if wants_bias else None
        return dx, dweight, dbias
