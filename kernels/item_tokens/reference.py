"""The law of `item_tokens`: a linear map a modality, the rows to their places, dropout."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.linear import linear

Tensors = tuple[Tensor, ...]


class Packed(NamedTuple):
    """The tokens ``[text.., image.., id]`` of one item after the other.

    Attributes:
        x: [L, d].
        cu_seqlens: int32 [U + 1], where the items begin and end.
        readouts: int64 [U, R], row of the first token of each modality, then of the ID token.
    """

    x: Tensor
    cu_seqlens: Tensor
    readouts: Tensor


def item_tokens_reference(
    values: Tensors,
    lengths: Tensors,
    weights: Tensors,
    biases: Tensors,
    p: float,
    seed: Tensor | None,
) -> Packed:
    """See `op.item_tokens`."""
    mapped = [linear(*given) for given in zip(values, weights, biases, strict=True)]
    cu_seqlens, places, readouts = layout(
        lengths, tuple(len(value) for value in values), values[-1].device
    )
    x: Tensor = _Interleave.apply(places, *mapped)  # type: ignore[no-untyped-call]
    return Packed(dropout(x, p, seed), cu_seqlens, readouts)


def layout(
    lengths: Tensors, rows: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensors, Tensor]:
    """(cu_seqlens, row of each token of each modality and of the ID tokens, readouts).

    Args:
        lengths: int64 [U] tokens of each item, per modality, at least one.
        rows: tokens in all, per modality, then U; known from shapes, so that nothing synchronises.
        device: of all of them.
    """
    ids = torch.ones(rows[-1], dtype=torch.int64, device=device)
    per_item = torch.stack((*lengths, ids)).sum(0)
    ends = per_item.cumsum(0)
    first = ends - per_item
    places, readouts = [], []
    for length, total in zip(lengths, rows[:-1], strict=True):
        # Token p of item u sits at first[u] + (p - packed start of u).
        shift = torch.repeat_interleave(
            first - (length.cumsum(0) - length), length, output_size=total
        )
        places.append(torch.arange(total, device=device) + shift)
        readouts.append(first)
        first = first + length
    places.append(first)
    readouts.append(first)
    cu_seqlens = torch.nn.functional.pad(ends, (1, 0)).to(torch.int32)
    return cu_seqlens, tuple(places), torch.stack(readouts, dim=1)


class _Interleave(torch.autograd.Function):
    """Writes every group to its rows; the backward reads them back."""

    @staticmethod
    def forward(ctx: Any, rows: Tensors, *groups: Tensor) -> Tensor:
        ctx.rows = rows
        total = sum(group.shape[0] for group in groups)
        out = groups[0].new_empty(total, groups[0].shape[1])
        for index, group in zip(rows, groups, strict=True):
            out.index_copy_(0, index, group)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(grad.index_select(0, index) for index in ctx.rows))
