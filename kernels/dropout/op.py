"""dropout: checks, backend choice, autograd, and the custom op that torch.compile sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.dropout.reference import dropout_reference
from odmt_fast.kernels.launch.backends import choose_backend
from odmt_fast.kernels.launch.checks import check_dropout, check_floating


def dropout(x: Tensor, p: float, seed: Tensor | None) -> Tensor:
    """Drop elements of x with probability p and scale the others by 1 / (1 - p).

    Args:
        x: any shape, floating.
        p: probability of dropping, 0 <= p < 1; 0 returns x itself.
        seed: int64 [1] on x's device; the same seed gives the same mask on every backend. May be
            None when p is 0.

    Returns:
        A tensor like x. The mask belongs to the flat index in the contiguous x.

    Raises:
        ValueError: p out of range, a seed of the wrong kind, or x not floating.
        RuntimeError: the forced backend cannot run here.
    """
    check_floating("dropout", "x", x)
    check_dropout("dropout", p, seed, x.device)
    if p == 0.0 or seed is None:
        return x
    if _backend(x) == "reference":
        return dropout_reference(x, p, seed)
    if torch.compiler.is_compiling():
        return _dropout_op(x, p, seed)
    return _Dropout.apply(x, p, seed)  # type: ignore[no-untyped-call]


def _backend(x: Tensor) -> str:
    return choose_backend("dropout", x.device.type, x.dtype)


def _apply(x: Tensor, p: float, seed: Tensor) -> Tensor:
    """The triton and cpu backends; the gradient of y is taken by the same function."""
    if _backend(x) == "triton":
        from odmt_fast.kernels.dropout.fwd import dropout_fwd

        return dropout_fwd(x.contiguous(), p, seed)
    from odmt_fast.kernels.dropout import cpu

    return cpu.apply(x.contiguous(), p, seed)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: Tensor) -> Tensor:
        ctx.save_for_backward(seed)
        ctx.p = p
        return _apply(x, p, seed)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        return _apply(dy, ctx.p, *ctx.saved_tensors), None, None


@torch.library.custom_op("odmt_fast::dropout", mutates_args=())
def _dropout_op(x: Tensor, p: float, seed: Tensor) -> Tensor:
    return _apply(x, p, seed)


@_dropout_op.register_fake
def _(x: Tensor, p: float, seed: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.p, seed = inputs
    ctx.save_for_backward(seed)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
    return _dropout_op(dy, ctx.p, *ctx.saved_tensors), None, None


_dropout_op.register_autograd(_backward, setup_context=_setup_context)
