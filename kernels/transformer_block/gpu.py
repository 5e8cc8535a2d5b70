"""The block on a GPU: forward by the parts' launches, backward as one.

What autograd would do between the parts is done within their products: the gradient of a residual
is what the next product is added to, in place, and the gradient of the last bias falls off the
norm's backward. Weight gradients are written in the dtype of the masters.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from odmt_fast.kernels.feed_forward import gpu as feed_forward
from odmt_fast.kernels.linear.products import input_gradient, weight_gradient
from odmt_fast.kernels.linear.reference import linear_reference
from odmt_fast.kernels.packed_attention.bwd import packed_attention_bwd
from odmt_fast.kernels.packed_attention.fwd import packed_attention_fwd
from odmt_fast.kernels.packed_attention.problem import Problem
from odmt_fast.kernels.residual_norm.bwd import residual_norm_bwd
from odmt_fast.kernels.residual_norm.fwd import residual_norm_fwd
from odmt_fast.kernels.transformer_block.problem import Seeds, Shape, Weights


class Tail(NamedTuple):
    """What the backward of all that follows the attention reads, in the order it was made."""

    attended: Tensor
    attention_total: Tensor
    attention_mean: Tensor
    attention_rstd: Tensor
    middle: Tensor
    hidden: Tensor
    total: Tensor
    mean: Tensor
    rstd: Tensor


def tail_forward(
    attended: Tensor, residual: Tensor, weights: Weights, seeds: Seeds, shape: Shape
) -> tuple[Tensor, Tail]:
    """(out [R, d], what is kept) of attended and residual [R, d]; weights are `Weights.narrow`."""
    _, p_out, p_network = shape.dropout
    middle, *of_attention = residual_norm_fwd(
        linear_reference(attended, weights.out),
        residual,
        weights.attention_norm,
        weights.attention_norm_bias,
        shape.eps,
        p_out,
        seeds[1],
    )
    y, hidden = feed_forward.forward(
        middle, weights.up, weights.up_bias, weights.down, weights.down_bias
    )
    out, *of_network = residual_norm_fwd(
        y, middle, weights.norm, weights.norm_bias, shape.eps, p_network, seeds[2]
    )
    return out, Tail(attended, *of_attention, middle, hidden, *of_network)


def tail_backward(
    dout: Tensor, tail: Tail, weights: Weights, seeds: Seeds, shape: Shape
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """(d residual, d attended, gradients of all weights but qkv); fresh tensors, free to add to."""
    _, p_out, p_network = shape.dropout
    dy, dmiddle, sums = residual_norm_bwd(
        dout, tail.total, tail.mean, tail.rstd, weights.norm, p_network, seeds[2], sum_dx=True
    )
    dnorm, dnorm_bias, ddown_bias = sums.unbind()
    dmiddle, dup, dup_bias, ddown = feed_forward.through_relu(
        dy, tail.middle, tail.hidden, weights.up, weights.down, onto=dmiddle
    )
    dy, dresidual, sums = residual_norm_bwd(
        dmiddle,
        tail.attention_total,
        tail.attention_mean,
        tail.attention_rstd,
        weights.attention_norm,
        p_out,
        seeds[1],
    )
    out = weight_gradient(dy, tail.attended, weights.out, torch.float32)
    gradients = [out, *sums.unbind(), dup, dup_bias, ddown, ddown_bias, dnorm, dnorm_bias]
    return dresidual, input_gradient(dy, weights.out), gradients


def written_block(
    x: Tensor, cu_seqlens: Tensor, weights: Weights, seeds: Seeds, shape: Shape
) -> Tensor:
    """`op.transformer_block`."""
    return _Block.apply(shape, x.contiguous(), cu_seqlens, *seeds, *weights)  # type: ignore[no-untyped-call]


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: Shape, x: Tensor, cu_seqlens: Tensor, *rest: Any) -> Tensor:
        seeds, masters = rest[:3], Weights(*rest[3:])
        weights = masters.narrow(x.dtype)
        qkv = linear_reference(x, weights.qkv)
        attended, lse = packed_attention_fwd(_problem(qkv, cu_seqlens, seeds, shape))
        out, tail = tail_forward(attended.view(x.shape), x, weights, seeds, shape)
        ctx.save_for_backward(x, cu_seqlens, qkv, lse, *seeds, *weights, *tail)
        ctx.shape, ctx.dtypes = shape, [master.dtype for master in masters]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, cu_seqlens, qkv, lse, *rest = ctx.saved_tensors
        seeds, weights, tail = taken_apart(rest)
        dx, dattended, gradients = tail_backward(dout.contiguous(), tail, weights, seeds, ctx.shape)
        problem = _problem(qkv, cu_seqlens, seeds, ctx.shape)
        dqkv = torch.empty_like(qkv)
        into = dqkv.view(len(x), 3, *problem.q.shape[1:]).unbind(1)
        packed_attention_bwd(problem, dattended.view(problem.q.shape), lse, into)
        dweight = weight_gradient(dqkv, x, weights.qkv, torch.float32)
        dx = input_gradient(dqkv, weights.qkv, onto=dx) if ctx.needs_input_grad[1] else None
        return None, dx, *NO_GRADIENT, *like_masters([dweight, *gradients], ctx.dtypes)


NO_GRADIENT = (None,) * 4
"""Of cu_seqlens and the three seeds."""


def taken_apart(saved: list[Tensor]) -> tuple[Seeds, Weights, Tail]:
    """The inverse of ``*seeds, *weights, *tail``."""
    a, b = 3, 3 + len(Weights._fields)
    return (saved[0], saved[1], saved[2]), Weights(*saved[a:b]), Tail(*saved[b:])


def like_masters(gradients: list[Tensor], dtypes: list[torch.dtype]) -> tuple[Tensor, ...]:
    """In the dtypes of the masters: where these are float32, as they are."""
    return tuple(g.to(dtype) for g, dtype in zip(gradients, dtypes, strict=True))


def _problem(qkv: Tensor, cu_seqlens: Tensor, seeds: Seeds, shape: Shape) -> Problem:
    rows, width = qkv.shape[0], qkv.shape[1] // 3
    q, k, v = qkv.view(rows, 3, shape.heads, -1).unbind(1)
    return Problem(
        q,
        k,
        v,
        cu_seqlens,
        seeds[0],
        shape.max_seqlen,
        shape.mask,
        shape.scale(width),
        shape.dropout[0],
        shape.groups,
    )
