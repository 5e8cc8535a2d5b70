"""dropout: checks, backend choice, gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.dropout.reference import dropout_reference
from odmt_fast.kernels.launch.backends import choose_backend
from odmt_fast.kernels.launch.checks import check_dropout, check_floating, check_groups
from odmt_fast.kernels.launch.operator import Operator


def dropout(x: Tensor, p: float, seed: Tensor | None, groups: int = 1) -> Tensor:
    """Drop elements of x with probability p and scale the others by 1 / (1 - p).

    Args:
        x: any shape, floating.
        p: probability of dropping, 0 <= p < 1; 0 returns x itself.
        seed: int64 [1] on x's device; the same seed gives the same mask on every backend. May be
            None when p is 0. Of length 2 the second number is the index of the first element, a
            multiple of 4.
        groups: equal consecutive parts of x whose noise is independent of each other's size.

    Returns:
        A tensor like x. The mask belongs to the group and the flat index in its contiguous part.

    Raises:
        ValueError: p out of range, a seed of the wrong kind, x not floating or not in equal groups.
        RuntimeError: the forced backend cannot run here.
    """
    check_floating("dropout", "x", x)
    check_dropout("dropout", p, seed, x.device)
    check_groups("dropout", groups, x.numel(), "elements")
    if p == 0.0 or seed is None:
        return x
    backend = choose_backend("dropout", x.device.type, x.dtype)
    if backend == "reference":
        return dropout_reference(x, p, seed, groups)
    return _operator(x, seed, p, groups, backend)[0]


def _apply(x: Tensor, seed: Tensor, p: float, groups: int, backend: str) -> tuple[Tensor]:
    """The triton and cpu backends; the gradient of y is taken by the same function."""
    if backend == "cpu":
        from odmt_fast.kernels.dropout import cpu

        return (cpu.apply(x.contiguous(), p, seed, groups),)
    from odmt_fast.kernels.dropout.fwd import dropout_fwd

    return (dropout_fwd(x.contiguous(), p, seed, groups),)


def _like(x: Tensor, *_: object) -> tuple[Tensor]:
    return (torch.empty_like(x, memory_format=torch.contiguous_format),)


_operator = Operator(
    name="dropout",
    signature="Tensor x, Tensor seed, float p, int groups, str backend",
    forward=_apply,
    like=_like,
    gradients=1,
    backward=_apply,
    backward_like=_like,
    keeps=(1,),
)
