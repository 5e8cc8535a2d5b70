"""linear: checks, backend choice, autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.backend import (
    choose,
    extension_missing,
    runs_anywhere,
    triton_missing,
)
from odmt_fast.kernels.launch.backends import CPU_DTYPES, TRITON_DTYPES, dtype_missing
from odmt_fast.kernels.launch.checks import check_floating
from odmt_fast.kernels.linear.copies import cast
from odmt_fast.kernels.linear.products import written_linear
from odmt_fast.kernels.linear.reference import linear_reference


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b in the dtype of x, from master weights of any floating dtype.

    Args:
        x: [R, a]; with grouped weights its rows form G equal consecutive groups.
        weight: W, [b, a] or [G, b, a].
        bias: b, [b] or [G, b].

    Returns:
        [R, b] in the dtype of x. Weights are cast to it, their gradients keep their own dtype.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit.

    Source: torch.nn.Linear, which the official code uses for every linear map.
    """
    check_rows("linear", x, weight)
    if bias is not None:
        check_master("linear", "bias", bias, weight.shape[:-1], x)
    backend = linear_backend("linear", x, weight)
    if backend == "cpu":
        return _Linear.apply(x.contiguous(), weight, bias)  # type: ignore[no-untyped-call]
    if backend == "written":
        return written_linear(x, weight, bias)
    return linear_reference(x, cast(weight, x.dtype), None if bias is None else cast(bias, x.dtype))


def check_rows(op: str, x: Tensor, weight: Tensor, name: str = "weight") -> None:
    """Raises ValueError unless rows x [R, a] fit weight [b, a] or [G, b, a] with G >= 1."""
    check_floating(op, "x", x)
    if weight.dim() not in (2, 3) or x.dim() != 2 or x.shape[1] != weight.shape[-1]:
        raise ValueError(
            f"{op}: x must be [R, a] and the {name} [b, a] or [G, b, a], got {list(x.shape)} and "
            f"{list(weight.shape)}"
        )
    check_master(op, name, weight, weight.shape, x)
    if weight.dim() == 3 and (len(weight) == 0 or x.shape[0] % len(weight)):
        raise ValueError(
            f"{op}: x must have a multiple of {weight.shape[0]} rows, one equal part per group of "
            f"{name} (at least one), got {x.shape[0]}"
        )


def check_master(op: str, name: str, master: Tensor, shape: Sequence[int], x: Tensor) -> None:
    """Raises ValueError unless a weight or bias is floating, of this shape and beside x."""
    check_floating(op, name, master)
    if master.shape != tuple(shape):
        raise ValueError(f"{op}: {name} must be {list(shape)}, got {list(master.shape)}")
    if master.device != x.device:
        raise ValueError(f"{op}: {name} is on {master.device}, x on {x.device}")


def linear_backend(op: str, x: Tensor, weight: Tensor, *, triton: bool = False) -> str:
    """ "triton", "cpu", "written" or "reference" for an operator made of linear maps of x.

    Args:
        op: its name.
        x: rows of the first map.
        weight: of the first map.
        triton: whether it has kernels for a GPU; else its products alone are written there.
    """

    def gpu(device_type: str) -> str | None:
        return dtype_missing(x.dtype, TRITON_DTYPES) or triton_missing(device_type)

    def cpu(device_type: str) -> str | None:
        if torch.compiler.is_compiling():
            return "under torch.compile the compiler fuses the reference"
        return dtype_missing(x.dtype, CPU_DTYPES) or extension_missing(device_type)

    def written(device_type: str) -> str | None:
        if torch.compiler.is_compiling():
            return "under torch.compile the compiler fuses the reference"
        single = device_type == "cpu" and weight.dim() == 2
        return "on a CPU autograd's own backward of a single map is as good" if single else None

    kernels = {"triton": gpu} if triton and not torch.compiler.is_compiling() else {}
    candidates = {**kernels, "cpu": cpu, "written": written, "reference": runs_anywhere}
    backend = choose(op, x.device.type, candidates)
    return backend if x.numel() and weight.numel() else "reference"  # no library multiplies nothing


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, master: Tensor, bias: Tensor | None) -> Tensor:
        from odmt_fast.kernels.linear import cpu

        weight = master.to(x.dtype)
        ctx.save_for_backward(x, weight)
        ctx.master_dtype = master.dtype
        ctx.bias_dtype = None if bias is None else bias.dtype
        return cpu.forward(x, weight, None if bias is None else bias.to(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from odmt_fast.kernels.linear import cpu

        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        dy = dy.contiguous()
        dx = cpu.input_gradient(dy, weight) if wants_x else None
        dweight = cpu.weight_gradient(dy, x, weight).to(ctx.master_dtype) if wants_weight else None
        dbias = cpu.bias_gradient(dy, weight).to(ctx.bias_dtype) if wants_bias else None
        return dx, dweight, dbias
