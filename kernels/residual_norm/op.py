"""residual_norm: checks, backend choice, gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.launch.backends import choose_backend
from odmt_fast.kernels.launch.checks import check_dropout, check_floating
from odmt_fast.kernels.launch.operator import Operator
from odmt_fast.kernels.residual_norm.reference import residual_norm_reference

OP = "residual_norm"
LARGEST_WIDTH = 8192  # a program of the Triton kernels holds whole rows in registers

Four = tuple[Tensor, Tensor, Tensor, Tensor]


def residual_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    eps: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """LayerNorm(residual + dropout(x)) * weight + bias over the last axis.

    Args:
        x: [R, d], the branch that dropout acts on.
        residual: [R, d], x's dtype.
        weight: [d], or [G, d] where the rows form G equal consecutive groups; float32
            or x's dtype.
        bias: like weight.
        eps: added to the variance.
        dropout: probability of dropping an element of x.
        seed: int64 [1] on x's device, needed where dropout > 0; element index
            row of the group * d + column, each group with noise of its own. Of length 2 the second
            number is the index of the first element, a multiple of 4.

    Returns:
        [R, d] in x's dtype. Statistics are in float32 (float64 for float64).

    Raises:
        ValueError: shapes, dtypes or devices that do not fit.
        RuntimeError: the forced backend cannot run here.

    Source: official model/modules.py, `layer_norm(x + dropout(sublayer(x)))`.
    """
    _check(x, residual, weight, bias, dropout, seed)
    backend = backend_of(x)
    if backend == "reference":
        return residual_norm_reference(x, residual, weight, bias, eps, dropout, seed)
    return _operator(x, residual, weight, bias, seed, eps, dropout, backend)[0]


def _check(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, p: float, seed: Tensor | None
) -> None:
    check_floating(OP, "x", x)
    check_dropout(OP, p, seed, x.device)
    if x.dim() != 2 or x.shape[1] == 0:
        raise ValueError(f"{OP}: x must be [R, d] with d >= 1, got {list(x.shape)}")
    if residual.shape != x.shape or residual.dtype != x.dtype or residual.device != x.device:
        raise ValueError(
            f"{OP}: residual must be like x ({x.dtype} {list(x.shape)} on {x.device}), got "
            f"{residual.dtype} {list(residual.shape)} on {residual.device}"
        )
    rows, d = x.shape
    for name, w in (("weight", weight), ("bias", bias)):
        if w.dim() not in (1, 2) or w.shape[-1] != d or w.shape != weight.shape:
            raise ValueError(
                f"{OP}: {name} must be [d]=[{d}] or [G, d], weight and bias alike, got "
                f"{list(w.shape)} beside weight {list(weight.shape)}"
            )
        if w.dtype not in (torch.float32, x.dtype) or w.dtype != weight.dtype:
            raise ValueError(
                f"{OP}: {name} must be torch.float32 or x's {x.dtype}, weight and bias alike, got "
                f"{w.dtype} beside weight {weight.dtype}"
            )
        if w.device != x.device:
            raise ValueError(f"{OP}: {name} is on {w.device}, x on {x.device}")
    if weight.dim() == 2 and (len(weight) == 0 or rows % len(weight)):
        raise ValueError(
            f"{OP}: {rows} rows cannot form the {len(weight)} equal groups of weight "
            f"{list(weight.shape)}"
        )


def backend_of(x: Tensor) -> str:
    """That of `residual_norm` for x [R, d]."""
    limit = None
    if x.shape[1] > LARGEST_WIDTH:
        limit = f"the width is at most {LARGEST_WIDTH}, got {x.shape[1]}"
    return choose_backend(OP, x.device.type, x.dtype, limit)


def _forward(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    seed: Tensor | None,
    eps: float,
    p: float,
    backend: str,
) -> Four:
    """(out, total, mean, rstd) of the triton and cpu backends; total = residual + dropout(x)."""
    x, residual, weight, bias = (t.contiguous() for t in (x, residual, weight, bias))
    if backend == "cpu":
        from odmt_fast.kernels.residual_norm import cpu

        return cpu.forward(x, residual, weight, bias, eps, p, seed)
    from odmt_fast.kernels.residual_norm.fwd import residual_norm_fwd

    return residual_norm_fwd(x, residual, weight, bias, eps, p, seed)


def _backward(
    dout: Tensor,
    weight: Tensor,
    seed: Tensor | None,
    total: Tensor,
    mean: Tensor,
    rstd: Tensor,
    eps: float,
    p: float,
    backend: str,
) -> Four:
    """(dx, dresidual, dweight, dbias); without dropout dx and dresidual may be one tensor."""
    dout, weight = dout.contiguous(), weight.contiguous()
    if backend == "cpu":
        from odmt_fast.kernels.residual_norm import cpu

        return cpu.backward(dout, total, mean, rstd, weight, p, seed)
    from odmt_fast.kernels.residual_norm.bwd import residual_norm_bwd

    dx, dresidual, sums = residual_norm_bwd(dout, total, mean, rstd, weight, p, seed)
    dweight, dbias = sums.to(weight.dtype).unbind()
    return dx, dresidual, dweight, dbias


def _like(x: Tensor, *_: object) -> Four:
    out = x.new_empty(x.shape)
    statistic = x.new_empty(x.shape[0], dtype=torch.float32)
    return out, torch.empty_like(out), statistic, torch.empty_like(statistic)


def _backward_like(
    dout: Tensor, weight: Tensor, seed: Tensor | None, total: Tensor, *_: object
) -> Four:
    dx, dweight = total.new_empty(total.shape), weight.new_empty(weight.shape)
    return dx, torch.empty_like(dx), dweight, torch.empty_like(dweight)


_operator = Operator(
    name="residual_norm",
    signature=(
        "Tensor x, Tensor residual, Tensor weight, Tensor bias, Tensor? seed, "
        "float eps, float p, str backend"
    ),
    forward=_forward,
    like=_like,
    gradients=4,
    backward=_backward,
    backward_like=_backward_like,
    keeps=(2, 4),
    extras=3,
)
