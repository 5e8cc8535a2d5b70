"""packed_self_attention: q, k and v in one tensor, as one projection makes them.

Splitting the projection outside would cost autograd a copy of all three gradients to join them
again; here they are written where they belong.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.packed_attention.op import (
    backward_of_backend,
    check_attention,
    forward_of_backend,
    packed_attention,
    runs_reference,
)


def packed_self_attention(
    qkv: Tensor,
    cu_seqlens: Tensor,
    *,
    max_seqlen: int,
    mask: str,
    scale: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """`packed_attention` of the three slices of qkv [P, 3, H, D]; arguments and errors as there."""
    if qkv.dim() != 4 or qkv.shape[1] != 3:
        raise ValueError(f"packed_self_attention: qkv must be [P, 3, H, D], got {list(qkv.shape)}")
    if torch.compiler.is_compiling() or runs_reference(qkv[:, 0], max_seqlen):
        q, k, v = qkv.unbind(1)
        return packed_attention(
            q,
            k,
            v,
            cu_seqlens,
            max_seqlen=max_seqlen,
            mask=mask,
            scale=scale,
            dropout=dropout,
            seed=seed,
        )
    check_attention(*qkv.unbind(1), cu_seqlens, max_seqlen, mask, dropout, seed)
    return _PackedSelfAttention.apply(  # type: ignore[no-untyped-call]
        qkv, cu_seqlens, seed, max_seqlen, mask, scale, dropout
    )


class _PackedSelfAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cu_seqlens: Tensor, seed: Tensor | None, *settings: Any
    ) -> Tensor:
        out, saved = forward_of_backend(*qkv.unbind(1), cu_seqlens, seed, *settings)
        ctx.save_for_backward(qkv, cu_seqlens, seed, *saved)
        ctx.settings = settings
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        qkv, cu_seqlens, seed, *saved = ctx.saved_tensors
        dqkv = torch.empty_like(qkv)
        backward_of_backend(
            dout,
            *qkv.unbind(1),
            cu_seqlens,
            seed,
            tuple(saved),
            *ctx.settings,
            into=dqkv.unbind(1),
        )
        return dqkv, None, None, None, None, None, None
