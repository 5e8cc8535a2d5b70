"""Which kinds of tokens a readout attends to, for people to look at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.transformer_block.problem import Shape, Weights
from odmt_fast.kernels.transformer_block.reference import readout_queries

KINDS = 16


@torch.no_grad()
def readout_shares(
    x: Tensor,
    cu_seqlens: Tensor,
    readouts: Tensor,
    kinds: Tensor,
    weights: Weights,
    shape: Shape,
) -> Tensor:
    """How much of what `readout_block` attends to is of which kind, without dropout.

    Args:
        x: [L, d] hidden states of all tokens.
        cu_seqlens: int32 [U + 1].
        readouts: int64 [U, R], rows of x.
        kinds: int64 [L], the kind 0..15 of every token.
        weights, shape: of the block.

    Returns:
        [U, R, 16], column k for kind k, sum 1; the mean of the heads.
    """
    width = x.shape[1]
    queries = readout_queries(x.index_select(0, readouts.reshape(-1)), weights.qkv, shape.heads)
    # The weighted sum of indicators is the weight: they ride behind the states, where the
    # queries are 0.
    marked = torch.cat([x, F.one_hot(kinds, KINDS).to(x.dtype)], dim=1)
    weighted = readout_attention(
        F.pad(queries, (0, KINDS)).reshape(*readouts.shape, shape.heads, width + KINDS),
        marked,
        cu_seqlens,
        max_seqlen=shape.max_seqlen,
        mask=shape.mask,
        scale=shape.scale(width),
    )
    return weighted[..., width:].mean(2)
