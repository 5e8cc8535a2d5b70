"""LiGR blocks (arXiv 2502.03417) as user encoder, the recipe of eSASRec (arXiv 2508.06450).

A block is ``x + sigmoid(G x) * dropout(F(LN(x)))``, twice: F is causal attention with biases, then
a SwiGLU network d -> 4d -> d without. Inputs are ``e + p`` with a learned position p, and no norm
follows the last block. Differences to eSASRec as RecTools has it: LayerNorm's eps is 1e-6, not
1e-5; Q, K and V begin as three matrices, not as one, and biases at 0; the loss and its candidates
are those of all models here.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.gathered_rows import gathered_rows
from odmt_fast.kernels.linear import linear
from odmt_fast.kernels.packed_attention import packed_self_attention
from odmt_fast.models.block import Affine, layer_norm
from odmt_fast.models.initial import xavier_normal
from odmt_fast.models.noise import Noise, Site
from odmt_fast.models.users.base import Rows, UserEncoder, branch_segments


class LiGRBlock(nn.Module):
    """K independent blocks.

    Args:
        width: d.
        heads: H; head size d / H.
        branches: K.
    """

    SITES = 4
    """Dropout sites: the probabilities, after O, within the network, after it."""

    def __init__(self, width: int, heads: int, branches: int) -> None:
        super().__init__()
        self.heads = heads
        vector, square = (branches, width), (branches, width, width)
        self.attention_norm = Affine(vector, vector)
        self.qkv = Affine((branches, 3 * width, width), (branches, 3 * width))
        self.out = Affine(square, vector)
        self.attention_gate = Affine(square, vector)
        self.norm = Affine(vector, vector)
        self.up = nn.Parameter(torch.empty(branches, 8 * width, width))
        self.down = nn.Parameter(torch.empty(branches, width, 4 * width))
        self.gate = Affine(square, vector)

    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier normal for matrices, biases 0; the norms begin as the identity."""
        branches, width = self.norm.weight.shape
        xavier_normal(generator, self.qkv.weight.view(branches, 3, width, width), self.qkv.bias)
        for layer in (self.out, self.attention_gate, self.gate):
            xavier_normal(generator, layer.weight, layer.bias)
        xavier_normal(generator, self.up.view(branches, 2, 4 * width, width))
        xavier_normal(generator, self.down)
        self.attention_norm.identity()
        self.norm.identity()

    def forward(
        self, x: Tensor, cu_seqlens: Tensor, max_seqlen: int, sites: tuple[Site, ...]
    ) -> Tensor:
        """x [K M, d] in segments `cu_seqlens` (int32) of at most `max_seqlen` rows -> [K M, d]."""
        rows, width = x.shape
        qkv = linear(layer_norm(x, self.attention_norm), self.qkv.weight, self.qkv.bias)
        attended = packed_self_attention(
            qkv.view(rows, 3, self.heads, -1),
            cu_seqlens,
            max_seqlen=max_seqlen,
            mask="causal",
            scale=1 / math.sqrt(width // self.heads),
            groups=len(self.down),
            **sites[0],
        )
        attended = linear(attended.reshape(rows, width), self.out.weight, self.out.bias)
        x = _gated(x, attended, self.attention_gate, sites[1])
        gate, value = linear(layer_norm(x, self.norm), self.up).chunk(2, dim=1)
        hidden = dropout(
            F.silu(gate) * value, sites[2]["dropout"], sites[2]["seed"], len(self.down)
        )
        return _gated(x, linear(hidden, self.down), self.gate, sites[3])


def _gated(x: Tensor, y: Tensor, gate: Affine, site: Site) -> Tensor:
    """x + sigmoid(G x + g) * dropout(y)."""
    opened = torch.sigmoid(linear(x, gate.weight, gate.bias))
    return x + opened * dropout(y, site["dropout"], site["seed"], len(gate.weight))


class LiGR(UserEncoder):
    """K stacks of `LiGRBlock`.

    Args:
        config: the architecture.
        branches: K.
    """

    def __init__(self, config: ModelConfig, branches: int) -> None:
        super().__init__(config.max_seq_len)
        width = config.width
        self.positions = nn.Parameter(torch.empty(branches, config.max_seq_len, width))
        self.blocks = nn.ModuleList(
            LiGRBlock(width, config.user_heads, branches) for _ in range(config.user_layers)
        )

    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier normal for positions and matrices."""
        xavier_normal(generator, self.positions)
        for block in self.blocks:
            assert isinstance(block, LiGRBlock)
            block.initialise(generator)

    def forward(self, items: Tensor, rows: Rows, noise: Noise) -> Tensor:
        """Item embeddings [K, U, d] -> states [K, M, d] after every step."""
        branches, _, width = items.shape
        (first,) = noise.sites(1)
        positions = gathered_rows(self.positions, rows.positions, items.dtype)
        x = gathered_rows(items, rows.inputs) + positions
        x = dropout(x, first["dropout"], first["seed"], branches)
        cu_seqlens = branch_segments(rows, branches)
        for block in self.blocks:
            x = block(x, cu_seqlens, self.max_seq_len, noise.sites(LiGRBlock.SITES))
        return x.view(branches, -1, width)
