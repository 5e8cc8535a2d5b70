"""Segments of packed tokens: the checks, and the padded view that the references compute on."""

from __future__ import annotations

import torch
from torch import Tensor

LONGEST_SEGMENT = 512  # the random numbers of a query are counted in runs of 512 keys


def check_segments(op: str, cu_seqlens: Tensor, max_seqlen: int, tokens: int, like: Tensor) -> None:
    """Raise unless cu_seqlens, int32 [n + 1], cuts `tokens` tokens into segments <= max_seqlen."""
    if cu_seqlens.dtype != torch.int32 or cu_seqlens.dim() != 1 or len(cu_seqlens) == 0:
        raise ValueError(
            f"{op}: cu_seqlens must be int32 [segments + 1], got {cu_seqlens.dtype} "
            f"{list(cu_seqlens.shape)}"
        )
    if cu_seqlens.device != like.device:
        raise ValueError(f"{op}: cu_seqlens is on {cu_seqlens.device}, the data on {like.device}")
    if not 0 <= max_seqlen <= LONGEST_SEGMENT:
        raise ValueError(
            f"{op}: max_seqlen must be in [0, {LONGEST_SEGMENT}], got {max_seqlen}; "
            "cut the segments"
        )
    if cu_seqlens.device.type == "cpu" and not torch.compiler.is_compiling():
        _check_values(op, cu_seqlens, max_seqlen, tokens)


def _check_values(op: str, cu_seqlens: Tensor, max_seqlen: int, tokens: int) -> None:
    """What a device could only check by waiting for it is checked where it is free."""
    if int(cu_seqlens[0]) != 0 or int(cu_seqlens[-1]) != tokens:
        raise ValueError(
            f"{op}: cu_seqlens must run from 0 to the {tokens} tokens, got {int(cu_seqlens[0])} to "
            f"{int(cu_seqlens[-1])}"
        )
    if len(cu_seqlens) > 1:
        shortest, longest = (int(x) for x in torch.aminmax(cu_seqlens.diff()))
        if shortest < 0 or longest > max_seqlen:
            raise ValueError(
                f"{op}: segments must have 0 to max_seqlen={max_seqlen} tokens, got {shortest} to "
                f"{longest}"
            )


def padded_index(cu_seqlens: Tensor, max_seqlen: int) -> tuple[Tensor, Tensor]:
    """(token [n, L], valid [n, L]): where token j of segment s lies; 0 where there is none."""
    position = torch.arange(max_seqlen, device=cu_seqlens.device)
    valid = position < cu_seqlens.diff().unsqueeze(1)
    token = cu_seqlens[:-1].long().unsqueeze(1) + position
    return torch.where(valid, token, torch.zeros_like(token)), valid


def packed_index(cu_seqlens: Tensor, max_seqlen: int, tokens: int) -> Tensor:
    """[P]: where each packed token lies in the flattened padded [n * L] tokens."""
    token = torch.arange(tokens, device=cu_seqlens.device)
    segment = torch.searchsorted(cu_seqlens[1:].contiguous(), token, right=True)
    return token - cu_seqlens.long()[segment] + segment * max_seqlen
