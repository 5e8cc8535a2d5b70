"""Attention within packed segments in plain torch: pad, mask, compute, pack."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.dropout.reference import GROUP, keep_mask, kept_scale
from odmt_fast.kernels.packed_attention.segments import (
    LONGEST_SEGMENT,
    packed_index,
    padded_index,
)


def allowed_pairs(cu_seqlens: Tensor, max_seqlen: int, mask: str) -> Tensor:
    """bool [n, L, L]: may query i of segment s read its key j?"""
    length = cu_seqlens.diff().view(-1, 1, 1)
    i = torch.arange(max_seqlen, device=cu_seqlens.device).view(1, -1, 1)
    j = i.view(1, 1, -1)
    inside = (i < length) & (j < length)
    if mask == "causal":
        return inside & (j <= i)
    if mask == "asymmetric":
        return inside & ((j < length - 1) | (i == length - 1))
    return inside


def packed_attention_reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    groups: int = 1,
) -> Tensor:
    """softmax(scale q k^T) v within each segment; arguments as in `op.packed_attention`."""
    tokens = len(q)
    token, valid = padded_index(cu_seqlens, max_seqlen)
    # Padding must be zero, not some real token: 0 * inf in a masked place is still NaN.
    q, k, v = (torch.where(valid[..., None, None], x[token], 0) for x in (q, k, v))
    allowed = allowed_pairs(cu_seqlens, max_seqlen, mask).unsqueeze(1)
    scores = torch.einsum("nihd,njhd->nhij", q, k) * scale
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    probabilities = scores.softmax(-1).masked_fill(~allowed, 0)
    if dropout > 0.0 and seed is not None:
        heads = torch.arange(q.shape[2], device=q.device).view(1, -1, 1)
        size = max(1, tokens // groups)
        row, group = (token % size).unsqueeze(1), (token // size).unsqueeze(1)
        first = group * GROUP + (row * q.shape[2] + heads) * LONGEST_SEGMENT
        keep = keep_mask(first, max_seqlen, dropout, seed)
        probabilities = probabilities * keep * kept_scale(dropout)
    out = torch.einsum("nhij,njhd->nihd", probabilities, v)
    return out.flatten(0, 1)[packed_index(cu_seqlens, max_seqlen, tokens)]
