"""The law of the block: its operators one after the other, each with a backend and a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.feed_forward import feed_forward
from odmt_fast.kernels.linear import cast, float8_linear, linear
from odmt_fast.kernels.packed_attention import packed_self_attention
from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.residual_norm import residual_norm
from odmt_fast.kernels.transformer_block.problem import Seeds, Shape, Weights


def transformer_block_reference(
    x: Tensor, cu_seqlens: Tensor, weights: Weights, seeds: Seeds, shape: Shape
) -> Tensor:
    """See `op.transformer_block`."""
    rows, width = x.shape
    attended = packed_self_attention(
        _map(x, weights.qkv, shape).view(rows, 3, shape.heads, width // shape.heads),
        cu_seqlens,
        max_seqlen=shape.max_seqlen,
        mask=shape.mask,
        scale=shape.scale(width),
        groups=shape.groups,
        dropout=shape.dropout[0],
        seed=seeds[0],
    )
    return _rest(attended.reshape(rows, width), x, weights, seeds, shape)


def readout_block_reference(
    x: Tensor, cu_seqlens: Tensor, readouts: Tensor, weights: Weights, seeds: Seeds, shape: Shape
) -> Tensor:
    """See `op.readout_block`."""
    items, r = readouts.shape
    width, heads = x.shape[1], shape.heads
    head = width // heads
    residual = _TakeRows.apply(x, readouts.reshape(-1))  # type: ignore[no-untyped-call]
    qkv = cast(weights.qkv, x.dtype)
    weighted = readout_attention(
        readout_queries(residual, qkv, heads).reshape(items, r, heads, width),
        x,
        cu_seqlens,
        max_seqlen=shape.max_seqlen,
        mask=shape.mask,
        scale=shape.scale(width),
        dropout=shape.dropout[0],
        seed=seeds[0],
    )
    weighted = weighted.view(items * r, heads, width).transpose(0, 1)
    w_v = qkv[2 * width :].view(heads, head, width)
    values = linear(weighted.reshape(-1, width), w_v)
    values = values.view(heads, -1, head).transpose(0, 1)
    return _rest(values.reshape(items * r, width), residual, weights, seeds, shape)


def readout_queries(rows: Tensor, qkv: Tensor, heads: int) -> Tensor:
    """``W_K^T q`` of rows [n, d], one per head: [n, H, d]; qkv [3 d, d] in any dtype."""
    width = rows.shape[1]
    w_q, w_k, _ = cast(qkv, rows.dtype).view(3, width, width).unbind(0)
    q = linear(rows, w_q).view(-1, heads, width // heads).transpose(0, 1)
    # A head is a group of the linear map, its rows one after the other.
    by_head = w_k.view(heads, width // heads, width).transpose(1, 2)
    queries = linear(q.reshape(-1, width // heads), by_head)
    return queries.view(heads, -1, width).transpose(0, 1)


def _rest(attended: Tensor, x: Tensor, weights: Weights, seeds: Seeds, shape: Shape) -> Tensor:
    """O, residual, norm, feed-forward, residual, norm; attended and x [R, d]."""
    x = residual_norm(
        _map(attended, weights.out, shape),
        x,
        weights.attention_norm,
        weights.attention_norm_bias,
        eps=shape.eps,
        dropout=shape.dropout[1],
        seed=seeds[1],
    )
    return residual_norm(
        _network(x, weights, shape),
        x,
        weights.norm,
        weights.norm_bias,
        eps=shape.eps,
        dropout=shape.dropout[2],
        seed=seeds[2],
    )


def _map(x: Tensor, weight: Tensor, shape: Shape) -> Tensor:
    return float8_linear(x, weight) if shape.float8 else linear(x, weight)


def _network(x: Tensor, weights: Weights, shape: Shape) -> Tensor:
    up, down = (weights.up, weights.up_bias), (weights.down, weights.down_bias)
    if shape.float8:
        return float8_linear(float8_linear(x, *up).relu(), *down)
    return feed_forward(x, *up, *down)


class _TakeRows(torch.autograd.Function):
    """Distinct rows of x [L, d]; no row is taken twice, so the backward copies and adds nothing."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.total = x.shape[0]
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return grad.new_zeros(ctx.total, grad.shape[1]).index_copy_(0, rows, grad), None
