"""Readout attention over packed hidden states in plain torch: pad, mask, compute."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.dropout.reference import keep_mask, kept_scale
from odmt_fast.kernels.packed_attention.segments import LONGEST_SEGMENT, padded_index


def allowed_keys(cu_seqlens: Tensor, max_seqlen: int, mask: str, readouts: int) -> Tensor:
    """bool [U, R, L]: may readout r of segment u read its key j?"""
    length = cu_seqlens.diff().view(-1, 1, 1)
    r = torch.arange(readouts, device=cu_seqlens.device).view(1, -1, 1)
    j = torch.arange(max_seqlen, device=cu_seqlens.device).view(1, 1, -1)
    if mask == "asymmetric":
        return (j < length - 1) | ((r == readouts - 1) & (j < length))
    return (j < length).expand(-1, readouts, -1)


def readout_attention_reference(
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """softmax(scale queries hidden^T) hidden per segment; arguments of `op.readout_attention`."""
    segments, readouts, heads, _ = queries.shape
    token, valid = padded_index(cu_seqlens, max_seqlen)
    states = torch.where(valid[..., None], hidden[token], 0)
    allowed = allowed_keys(cu_seqlens, max_seqlen, mask, readouts).unsqueeze(2)
    scores = torch.einsum("urhd,ujd->urhj", queries, states) * scale
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    probabilities = scores.softmax(-1).masked_fill(~allowed, 0)
    if dropout > 0.0 and seed is not None:
        rows = torch.arange(segments * readouts * heads, device=queries.device)
        first = rows.view(segments, readouts, heads) * LONGEST_SEGMENT
        keep = keep_mask(first, max_seqlen, dropout, seed)
        probabilities = probabilities * keep * kept_scale(dropout)
    return torch.einsum("urhj,ujd->urhd", probabilities, states)
