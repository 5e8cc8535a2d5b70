"""The block for a few rows of every segment on a GPU: `gpu.py` with the other attention.

A head is a matrix of a batched product. Its rows lie apart, those of a token beside each other, and
cuBLAS reads and writes them so: nothing is copied to bring heads together or apart.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.linear.products import input_gradient, product
from odmt_fast.kernels.linear.reference import linear_reference
from odmt_fast.kernels.readout_attention.bwd import readout_attention_bwd
from odmt_fast.kernels.readout_attention.fwd import readout_attention_fwd
from odmt_fast.kernels.readout_attention.problem import Problem
from odmt_fast.kernels.transformer_block.gpu import (
    NO_GRADIENT,
    like_masters,
    tail_backward,
    tail_forward,
    taken_apart,
)
from odmt_fast.kernels.transformer_block.problem import Seeds, Shape, Weights


def written_readout(
    x: Tensor, cu_seqlens: Tensor, readouts: Tensor, weights: Weights, seeds: Seeds, shape: Shape
) -> Tensor:
    """`op.readout_block`."""
    return _Readout.apply(  # type: ignore[no-untyped-call]
        shape, x.contiguous(), readouts, cu_seqlens, *seeds, *weights
    )


class _Readout(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, shape: Shape, x: Tensor, readouts: Tensor, cu_seqlens: Tensor, *rest: Any
    ) -> Tensor:
        seeds, masters = rest[:3], Weights(*rest[3:])
        weights, heads = masters.narrow(x.dtype), shape.heads
        w_q, w_k, w_v = _by_use(weights.qkv, heads)
        rows, width = readouts.reshape(-1), x.shape[1]
        residual = x.index_select(0, rows)
        q = linear_reference(residual, w_q)
        queries = x.new_empty(*readouts.shape, heads, width)
        product(_by_head(q, heads), w_k, x.dtype, _by_head(queries, heads))
        problem = _problem(queries, x, cu_seqlens, seeds, shape)
        weighted, lse = readout_attention_fwd(problem)
        values = torch.empty_like(q)
        product(_by_head(weighted, heads), w_v.transpose(1, 2), x.dtype, _by_head(values, heads))
        out, tail = tail_forward(values, residual, weights, seeds, shape)
        ctx.save_for_backward(
            x, rows, cu_seqlens, residual, q, queries, weighted, lse, *seeds, *weights, *tail
        )
        ctx.shape, ctx.dtypes = shape, [master.dtype for master in masters]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        x, rows, cu_seqlens, residual, q, queries, weighted, lse, *rest = ctx.saved_tensors
        seeds, weights, tail = taken_apart(rest)
        shape, heads = ctx.shape, ctx.shape.heads
        dresidual, dvalues, gradients = tail_backward(
            dout.contiguous(), tail, weights, seeds, shape
        )
        w_q, w_k, w_v = _by_use(weights.qkv, heads)
        dqkv = torch.empty_like(weights.qkv, dtype=torch.float32)
        dw_q, dw_k, dw_v = _by_use(dqkv, heads)
        dweighted, dq = torch.empty_like(weighted), torch.empty_like(q)

        dvalues = _by_head(dvalues, heads)
        product(dvalues, w_v, x.dtype, _by_head(dweighted, heads))
        product(dvalues.transpose(1, 2), _by_head(weighted, heads), dqkv.dtype, dw_v)
        problem = _problem(queries, x, cu_seqlens, seeds, shape)
        dqueries, dx = readout_attention_bwd(problem, dweighted, lse)
        dqueries = _by_head(dqueries, heads)
        product(dqueries, w_k.transpose(1, 2), x.dtype, _by_head(dq, heads))
        product(_by_head(q, heads).transpose(1, 2), dqueries, dqkv.dtype, dw_k)
        product(dq.t(), residual, dqkv.dtype, dw_q)
        if ctx.needs_input_grad[1]:
            # No row is read out twice: one number is added to each.
            dx.index_add_(0, rows, input_gradient(dq, w_q, onto=dresidual))
        gradients = like_masters([dqkv, *gradients], ctx.dtypes)
        return None, dx, None, *NO_GRADIENT, *gradients


def _by_use(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """W_Q [d, d], and of every head W_K and W_V [H, d / H, d]; views of qkv [3 d, d]."""
    width = qkv.shape[1]
    w_q, w_k, w_v = qkv.view(3, width, width).unbind(0)
    return w_q, w_k.view(heads, -1, width), w_v.view(heads, -1, width)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """x contiguous [.., H, c] or [N, H c] -> a view [H, N, c]."""
    column = x.shape[-1] if x.dim() > 2 else x.shape[1] // heads
    return x.view(-1, heads, column).transpose(0, 1)


def _problem(queries: Tensor, x: Tensor, cu_seqlens: Tensor, seeds: Seeds, shape: Shape) -> Problem:
    return Problem(
        queries,
        x,
        cu_seqlens,
        seeds[0],
        shape.max_seqlen,
        shape.mask,
        shape.scale(x.shape[1]),
        shape.dropout[0],
    )
