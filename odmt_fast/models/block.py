"""The post-norm Transformer block over packed rows, used by the item and the user encoders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odmt_fast.kernels.feed_forward import feed_forward
from odmt_fast.kernels.linear import cast, linear
from odmt_fast.kernels.packed_attention import LONGEST_SEGMENT, packed_self_attention
from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.residual_norm import residual_norm
from odmt_fast.models.initial import Draw
from odmt_fast.models.noise import Site, counted_from

LAYER_NORM_EPS = 1e-6
_KINDS = 16


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


class Affine(nn.Module):
    """Weight and bias of a LayerNorm or a linear map, optionally one per group.

    Args:
        shape: shape of the weight; the bias has it without the last dimension of a linear map.
        bias: shape of the bias.
    """

    def __init__(self, shape: tuple[int, ...], bias: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(bias))

    def identity(self) -> None:
        """The initial values of a LayerNorm."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)


def layer_norm(x: Tensor, norm: Affine) -> Tensor:
    """LayerNorm of x [R, d], its weights [d] or one per group [G, d] of equal parts of the rows."""
    return residual_norm(x, torch.zeros_like(x), norm.weight, norm.bias, eps=LAYER_NORM_EPS)


class Block(nn.Module):
    """MHA -> LN(x + .) -> FFN -> LN(x + .), every step on packed rows.

    Parameters have a leading group dimension when `groups` is given: the three user encoders are
    one block of three groups.

    Args:
        width: d.
        heads: attention heads H; head size d / H.
        groups: independent copies G of the block, or None for one without the dimension.
    """

    def __init__(self, width: int, heads: int, groups: int | None = None) -> None:
        super().__init__()
        g = () if groups is None else (groups,)
        self.heads, self.groups = heads, groups or 1
        self.qkv = nn.Parameter(torch.empty(*g, 3 * width, width))
        self.out = nn.Parameter(torch.empty(*g, width, width))
        self.attention_norm = Affine((*g, width), (*g, width))
        self.up = Affine((*g, 4 * width, width), (*g, 4 * width))
        self.down = Affine((*g, width, 4 * width), (*g, width))
        self.norm = Affine((*g, width), (*g, width))

    SITES = 3
    """Dropout sites of a block: the probabilities, after O, after the second linear map."""

    def initialise(self, draw: Draw, generator: torch.Generator | None) -> None:
        """Draws Q, K, V, O and the feed-forward maps; the norms begin as the identity."""
        draw(generator, self.qkv.view(*self.out.shape[:-2], 3, *self.out.shape[-2:]), None)
        draw(generator, self.out, None)
        for layer in (self.up, self.down):
            draw(generator, layer.weight, layer.bias)
        self.attention_norm.identity()
        self.norm.identity()

    def sites_from_row(self, sites: Sequence[Site], row: int) -> tuple[Site, Site, Site]:
        """Dropout of a part of the rows of a block of one group, of which `row` is the first."""
        probabilities, *elements = sites
        width = self.out.shape[-1]
        first, second = (counted_from(site, row * width) for site in elements)
        return counted_from(probabilities, row * self.heads * LONGEST_SEGMENT), first, second

    def forward(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        *,
        max_seqlen: int,
        mask: str,
        sites: tuple[Site, Site, Site],
    ) -> Tensor:
        """x [R, d] in segments `cu_seqlens` (int32) -> [R, d]."""
        rows, width = x.shape
        attended = packed_self_attention(
            linear(x, self.qkv).view(rows, 3, self.heads, -1),
            cu_seqlens,
            max_seqlen=max_seqlen,
            mask=mask,
            scale=1 / math.sqrt(width // self.heads),
            groups=self.groups,
            **sites[0],
        )
        return self._rest(attended.reshape(rows, width), x, sites)

    def readout(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        readouts: Tensor,
        *,
        max_seqlen: int,
        mask: str,
        sites: tuple[Site, Site, Site],
    ) -> Tensor:
        """The block for a few rows of every segment only (identity 3).

        Keys and values are never formed: ``q . (W_K h) = (W_K^T q) . h`` and
        ``sum_j p_j W_V h_j = W_V sum_j p_j h_j``.

        Args:
            x: [L, d] hidden states of all tokens.
            cu_seqlens: int32 [U + 1].
            readouts: int64 [U, R], rows of x to compute; the last one is the ID token.
            max_seqlen: the longest segment.
            mask: "asymmetric" or "symmetric".
            sites: dropout of the block.

        Returns:
            [U R, d].
        """
        items, r = readouts.shape
        width = x.shape[1]
        head = width // self.heads
        w_q, w_k, w_v = cast(self.qkv, x.dtype).view(3, width, width).unbind(0)
        w_v = w_v.view(self.heads, head, width)
        residual = _TakeRows.apply(x, readouts.reshape(-1))  # type: ignore[no-untyped-call]
        weighted = readout_attention(
            self._queries(residual, w_q, w_k).reshape(items, r, self.heads, width),
            x,
            cu_seqlens,
            max_seqlen=max_seqlen,
            mask=mask,
            scale=1 / math.sqrt(head),
            **sites[0],
        )
        weighted = weighted.view(items * r, self.heads, width).transpose(0, 1)
        values = linear(weighted.reshape(-1, width), w_v)
        values = values.view(self.heads, -1, head).transpose(0, 1)
        return self._rest(values.reshape(items * r, width), residual, sites)

    @torch.no_grad()
    def readout_shares(
        self,
        x: Tensor,
        cu_seqlens: Tensor,
        readouts: Tensor,
        kinds: Tensor,
        *,
        max_seqlen: int,
        mask: str,
    ) -> Tensor:
        """How much of what `readout` attends to is of which kind, without dropout.

        Args:
            x: [L, d] hidden states of all tokens.
            cu_seqlens: int32 [U + 1].
            readouts: int64 [U, R], rows of x.
            kinds: int64 [L], the kind 0..15 of every token.
            max_seqlen: the longest segment.
            mask: "asymmetric" or "symmetric".

        Returns:
            [U, R, 16], column k for kind k, sum 1; the mean of the heads.
        """
        items, r = readouts.shape
        width = x.shape[1]
        w_q, w_k, _ = cast(self.qkv, x.dtype).view(3, width, width).unbind(0)
        queries = self._queries(x.index_select(0, readouts.reshape(-1)), w_q, w_k)
        # The weighted sum of indicators is the weight: they ride behind the states, where the
        # queries are 0.
        marked = torch.cat([x, F.one_hot(kinds, _KINDS).to(x.dtype)], dim=1)
        weighted = readout_attention(
            F.pad(queries, (0, _KINDS)).reshape(items, r, self.heads, width + _KINDS),
            marked,
            cu_seqlens,
            max_seqlen=max_seqlen,
            mask=mask,
            scale=1 / math.sqrt(width // self.heads),
        )
        return weighted[..., width:].mean(2)

    def _queries(self, rows: Tensor, w_q: Tensor, w_k: Tensor) -> Tensor:
        """``W_K^T q`` of rows [n, d], one per head: [n, H, d]."""
        width = rows.shape[1]
        head = width // self.heads
        q = linear(rows, w_q).view(-1, self.heads, head).transpose(0, 1)
        # A head is a group of the linear map, its rows one after the other.
        by_head = w_k.view(self.heads, head, width).transpose(1, 2)
        queries = linear(q.reshape(-1, head), by_head)
        return queries.view(self.heads, -1, width).transpose(0, 1)

    def _rest(self, attended: Tensor, x: Tensor, sites: tuple[Site, Site, Site]) -> Tensor:
        """O, residual, norm, feed-forward, residual, norm; attended and x [R, d]."""
        x = self._residual_norm(linear(attended, self.out), x, self.attention_norm, sites[1])
        y = feed_forward(x, self.up.weight, self.up.bias, self.down.weight, self.down.bias)
        return self._residual_norm(y, x, self.norm, sites[2])

    @staticmethod
    def _residual_norm(y: Tensor, x: Tensor, norm: Affine, site: Site) -> Tensor:
        return residual_norm(y, x, norm.weight, norm.bias, eps=LAYER_NORM_EPS, **site)
