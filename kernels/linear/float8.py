"""The linear map with products of float8: operands rounded to e4m3, a scale for every row.

y = x W^T and dx = dy W round both operands along the axis they are summed over, so that each row
of either has a scale of its own; dW = dy^T x keeps the dtype of x, since its sum runs over
thousands of rows of very different size. The recipe is torchao's "rowwise with high-precision
weight gradients".

On a GPU from sm_89 on ``torch._scaled_mm`` multiplies; it is private, so it is tried once.
Everywhere else the same rounded operands are multiplied in float32, which is slower than not
rounding them at all: to measure what float8 does to a model, not to train it (`float8_missing`).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.linear.op import check_master, check_rows

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
OLDEST = (8, 9)


def float8_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b with both operands in float8; arguments as of `linear`, W [b, a].

    Returns:
        [R, b] in the dtype of x.

    Raises:
        ValueError: grouped weights, or shapes that do not fit.
    """
    check_rows("float8_linear", x, weight)
    if weight.dim() != 2:
        raise ValueError(f"float8_linear: weight must be [b, a], got {list(weight.shape)}")
    if bias is not None:
        check_master("float8_linear", "bias", bias, weight.shape[:1], x)
    y: Tensor = _Float8Linear.apply(x, weight)  # type: ignore[no-untyped-call]
    return y if bias is None else y + bias.to(x.dtype)


class _Float8Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, master: Tensor) -> Tensor:
        weight = master.to(x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.master_dtype = master.dtype
        return product(x, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        dx = product(dy, weight.t()) if wants_x else None
        dweight = (dy.t() @ x).to(ctx.master_dtype) if wants_weight else None
        return dx, dweight


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """(e4m3 [R, a], scales float32 [R, 1]) whose product is x [R, a], each row to its largest."""
    wide = x.float()
    largest = wide.abs().amax(dim=1, keepdim=True)
    scale = torch.where(largest > 0, largest / LARGEST, torch.ones_like(largest))
    # Of NaN and infinity the cast makes NaN, which the loop then finds.
    return (wide / scale).to(FLOAT8).contiguous(), scale


def product(a: Tensor, b: Tensor) -> Tensor:
    """[R, n] = a b^T of a [R, k] and b [n, k], both rounded, in the dtype of a."""
    (narrow_a, scale_a), (narrow_b, scale_b) = rounded(a), rounded(b)
    if a.dtype == torch.bfloat16 and float8_missing(a.device) is None:
        return _scaled(narrow_a, narrow_b, scale_a, scale_b)
    return ((narrow_a.float() @ narrow_b.float().t()) * scale_a * scale_b.t()).to(a.dtype)


def _scaled(a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor) -> Tensor:
    made: Tensor = torch._scaled_mm(
        a, b.t(), scale_a=scale_a, scale_b=scale_b.t(), out_dtype=torch.bfloat16
    )
    return made


def float8_missing(device: torch.device) -> str | None:
    """Why `device` has no products of float8; None where it has."""
    if device.type != "cuda":
        return f"products of float8 need a GPU, got {device}"
    index = torch.cuda.current_device() if device.index is None else device.index
    return _gpu_error(index)


@cache
def _gpu_error(index: int) -> str | None:
    capability = torch.cuda.get_device_capability(index)
    if capability < OLDEST:
        number = "".join(map(str, capability))
        return f"products of float8 need a GPU from sm_89 on, got sm_{number}"
    try:
        x = torch.eye(32, device=f"cuda:{index}").to(FLOAT8)
        one = torch.ones(32, 1, device=x.device)
        if torch.equal(_scaled(x, x, one, one).float(), torch.eye(32, device=x.device)):
            return None
        return "torch._scaled_mm computes something else in this version of torch"
    # Private: it may be gone, or take other arguments.
    except (AttributeError, TypeError, RuntimeError, ValueError) as error:
        return f"torch._scaled_mm does not run here ({str(error).splitlines()[0]})"
