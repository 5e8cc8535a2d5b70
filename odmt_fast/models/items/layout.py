"""Where the tokens of each item lie in the packed sequence ``[text.., image.., id]`` per item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenLayout:
    """Rows of U items in one packed tensor of L rows.

    Attributes:
        cu_seqlens: int32 [U + 1].
        groups: one int64 [P_m] per modality, then [U] for the ID tokens: row of each token.
        readouts: int64 [U, R], row of the first token of each modality, then of the ID token.
        max_seqlen: an upper bound of the longest item.
    """

    cu_seqlens: Tensor
    groups: tuple[Tensor, ...]
    readouts: Tensor
    max_seqlen: int

    @classmethod
    def of(
        cls, items: Tensor, lengths: tuple[Tensor, ...], rows: tuple[int, ...], max_seqlen: int
    ) -> TokenLayout:
        """The layout of `items` with `lengths`.

        Args:
            items: int64 [U]; each has an ID token.
            lengths: int64 [U] tokens of each item, per modality; none for items of an ID alone.
            rows: tokens in all, per modality; known from shapes, so that nothing synchronises.
            max_seqlen: an upper bound of the longest item, the ID token included.
        """
        device = items.device
        per_item = torch.stack((torch.ones_like(items), *lengths)).sum(0)
        ends = per_item.cumsum(0)
        first = ends - per_item
        groups, readouts = [], []
        for length, total in zip(lengths, rows, strict=True):
            # Token p of item u sits at first[u] + (p - packed start of u).
            shift = torch.repeat_interleave(
                first - (length.cumsum(0) - length), length, output_size=total
            )
            groups.append(torch.arange(total, device=device) + shift)
            readouts.append(first)
            first = first + length
        groups.append(first)
        readouts.append(first)
        cu_seqlens = torch.nn.functional.pad(ends, (1, 0)).to(torch.int32)
        return cls(cu_seqlens, tuple(groups), torch.stack(readouts, dim=1), max_seqlen)


class _Interleave(torch.autograd.Function):
    """Writes every group to its rows; the backward reads them back."""

    @staticmethod
    def forward(ctx: Any, rows: tuple[Tensor, ...], *groups: Tensor) -> Tensor:
        ctx.rows = rows
        total = sum(group.shape[0] for group in groups)
        out = groups[0].new_empty(total, groups[0].shape[1])
        for index, group in zip(rows, groups, strict=True):
            out.index_copy_(0, index, group)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *(grad.index_select(0, index) for index in ctx.rows))


def interleave(groups: tuple[Tensor, ...], layout: TokenLayout) -> Tensor:
    """One [P_m, d] per modality and [U, d] of ID tokens -> packed [L, d]."""
    return _Interleave.apply(layout.groups, *groups)  # type: ignore[no-untyped-call]
