"""feed_forward: checks, backend choice, autograd."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.feed_forward.reference import feed_forward_reference
from odmt_fast.kernels.linear.copies import cast
from odmt_fast.kernels.linear.op import check_master, check_rows, linear_backend
from odmt_fast.kernels.linear.products import written_linear


def feed_forward(x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    """relu(x U^T + a) D^T + b, from master weights of any floating dtype.

    Args:
        x: [R, d]; with grouped weights its rows form G equal consecutive groups.
        up: U, [h, d] or [G, h, d].
        up_bias: a, [h] or [G, h].
        down: D, [d, h] or [G, d, h].
        down_bias: b, [d] or [G, d].

    Returns:
        [R, d] in the dtype of x. Weights are cast to it, their gradients keep their own dtype.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit.

    Source: official model/modules.py, class PositionwiseFeedForward.
    """
    check_rows("feed_forward", x, up, "up")
    groups, hidden, width = up.shape[:-2], up.shape[-2], x.shape[1]
    expected = {
        "up_bias": (up_bias, (*groups, hidden)),
        "down": (down, (*groups, width, hidden)),
        "down_bias": (down_bias, (*groups, width)),
    }
    for name, (value, shape) in expected.items():
        check_master("feed_forward", name, value, shape, x)
    weights = up, up_bias, down, down_bias
    backend = linear_backend("feed_forward", x, up, triton=True)
    if backend in ("triton", "cpu"):
        made: Tensor = _FeedForward.apply(backend, x.contiguous(), *weights)  # type: ignore[no-untyped-call]
        return made
    if backend == "written":
        return written_linear(written_linear(x, up, up_bias).relu(), down, down_bias)
    return feed_forward_reference(x, *(cast(weight, x.dtype) for weight in weights))


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, backend: str, x: Tensor, *masters: Tensor) -> Tensor:
        weights = [cast(master, x.dtype) for master in masters]
        ctx.backend = _implementation(backend)
        y, hidden = ctx.backend.forward(x, *weights)
        ctx.save_for_backward(x, hidden, weights[0], weights[2])
        ctx.dtypes = [tensor.dtype for tensor in (x, *masters)]
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.backend.backward(dy.contiguous(), *ctx.saved_tensors)
        return None, *(g.to(dtype) for g, dtype in zip(gradients, ctx.dtypes, strict=True))


def _implementation(backend: str) -> ModuleType:
    if backend == "cpu":
        from odmt_fast.kernels.feed_forward import cpu

        return cpu
    from odmt_fast.kernels.feed_forward import gpu

    return gpu
