"""The post-norm Transformer block over packed rows, used by the item and the user encoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from odmt_fast.kernels.packed_attention import LONGEST_SEGMENT
from odmt_fast.kernels.residual_norm import residual_norm
from odmt_fast.kernels.transformer_block import (
    Seeds,
    Shape,
    Weights,
    readout_block,
    readout_shares,
    transformer_block,
)
from odmt_fast.models.initial import Draw
from odmt_fast.models.noise import Site, counted_from

LAYER_NORM_EPS = 1e-6


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

    Attributes:
        float8: whether the products of Q, K, V, O and the feed-forward maps round their operands to
            float8 (of a readout O and the feed-forward maps); of a block of one group.
    """

    def __init__(self, width: int, heads: int, groups: int | None = None) -> None:
        super().__init__()
        g = () if groups is None else (groups,)
        self.heads, self.groups, self.float8 = heads, groups or 1, False
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
        return transformer_block(
            x, cu_seqlens, self._weights(), *self._described(max_seqlen, mask, sites)
        )

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
        """The block for a few rows of every segment only (identity 3), see `readout_block`.

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
        return readout_block(
            x, cu_seqlens, readouts, self._weights(), *self._described(max_seqlen, mask, sites)
        )

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
        """How much of what `readout` attends to is of which kind, see `kernels.transformer_block`.

        Returns:
            [U, R, 16], column k for the tokens of `kinds` (int64 [L]) k.
        """
        shape = Shape(self.heads, max_seqlen, mask, LAYER_NORM_EPS)
        return readout_shares(x, cu_seqlens, readouts, kinds, self._weights(), shape)

    def _weights(self) -> Weights:
        return Weights(
            self.qkv,
            self.out,
            self.attention_norm.weight,
            self.attention_norm.bias,
            self.up.weight,
            self.up.bias,
            self.down.weight,
            self.down.bias,
            self.norm.weight,
            self.norm.bias,
        )

    def _described(
        self, max_seqlen: int, mask: str, sites: tuple[Site, Site, Site]
    ) -> tuple[Seeds, Shape]:
        first, second, third = sites
        dropout = first["dropout"], second["dropout"], third["dropout"]
        shape = Shape(
            self.heads, max_seqlen, mask, LAYER_NORM_EPS, self.groups, dropout, self.float8
        )
        return (first["seed"], second["seed"], third["seed"]), shape
