"""packed_attention in C++ (csrc/attention.inl, csrc/attention_tiles.inl): a (segment, head) at a
time, all of it in cache. Nothing of size [L, L] is written; the backward forms the probabilities
again from the row's log-sum-exp.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.dropout.cpu import DropoutArgument, dropout_argument
from odmt_fast.kernels.launch.dry import run

Three = tuple[Tensor, Tensor, Tensor]
AttentionArgument = tuple[bool, int, int, int, int, str, float, DropoutArgument, int, int]


def attention_argument(
    data: Tensor,
    heads: int,
    width: int,
    cu_seqlens: Tensor,
    mask: str,
    scale: float,
    dropout: DropoutArgument,
    groups: int = 1,
) -> AttentionArgument:
    """The shape and settings of an attention over packed segments, for the extension."""
    return (
        data.dtype == torch.bfloat16,
        cu_seqlens.data_ptr(),
        len(cu_seqlens) - 1,
        heads,
        width,
        mask,
        scale,
        dropout,
        groups,
        torch.get_num_threads(),
    )


def _heads(x: Tensor) -> tuple[int, int, int]:
    return x.data_ptr(), x.stride(0), x.stride(1)


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
    seed: Tensor | None,
    groups: int,
) -> tuple[Tensor, Tensor]:
    """(out [P, H, D], lse [P, H]); arguments of `op.packed_attention`, float32 or bfloat16."""
    tokens, heads, width = q.shape
    out = torch.empty((tokens, heads, width), dtype=q.dtype)
    lse = torch.empty((tokens, heads), dtype=torch.float32)
    cu_seqlens = cu_seqlens.contiguous()
    dropout = dropout_argument(p, seed)
    shape = attention_argument(q, heads, width, cu_seqlens, mask, scale, dropout, groups)
    run(
        _C.packed_attention_forward,
        shape,
        _heads(q),
        _heads(k),
        _heads(v),
        _heads(out),
        lse.data_ptr(),
    )
    return out, lse


def backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
    seed: Tensor | None,
    groups: int,
    lse: Tensor,
    out: Three | None = None,
) -> Three:
    """(dq, dk, dv), written into `out` when given (say three views of the gradient of a fused qkv).

    Args: those of `forward`, the gradient of its result and its lse. The last axis of every
    tensor is contiguous.
    """
    tokens, heads, width = q.shape
    dq, dk, dv = out or (torch.empty((tokens, heads, width), dtype=q.dtype) for _ in range(3))
    cu_seqlens = cu_seqlens.contiguous()
    dropout = dropout_argument(p, seed)
    shape = attention_argument(q, heads, width, cu_seqlens, mask, scale, dropout, groups)
    inputs = (_heads(x) for x in (q, k, v, dout))
    run(
        _C.packed_attention_backward,
        shape,
        *inputs,
        lse.data_ptr(),
        _heads(dq),
        _heads(dk),
        _heads(dv),
    )
    return dq, dk, dv
