"""One SASRec per branch, all branches in one grouped call (paper section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.gathered_rows import gathered_rows
from odmt_fast.kernels.residual_norm import residual_norm
from odmt_fast.models.block import LAYER_NORM_EPS, Affine, Block
from odmt_fast.models.initial import xavier_normal
from odmt_fast.models.noise import Noise
from odmt_fast.models.users.base import Rows, UserEncoder, branch_segments


class SASRec(UserEncoder):
    """K independent causal encoders with learned right-aligned positions (Kang, McAuley 2018).

    Args:
        config: the architecture.
        branches: K.
    """

    def __init__(self, config: ModelConfig, branches: int) -> None:
        super().__init__(config.max_seq_len)
        width = config.width
        self.positions = nn.Parameter(torch.empty(branches, config.max_seq_len, width))
        self.norm = Affine((branches, width), (branches, width))
        self.blocks = nn.ModuleList(
            Block(width, config.user_heads, branches) for _ in range(config.user_layers)
        )

    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier normal for positions and matrices, as officially; biases 0."""
        xavier_normal(generator, self.positions)
        self.norm.identity()
        for block in self.blocks:
            assert isinstance(block, Block)
            block.initialise(xavier_normal, generator)

    def forward(self, items: Tensor, rows: Rows, noise: Noise) -> Tensor:
        """Item embeddings [K, U, d] -> states [K, M, d] after every step."""
        branches, _, width = items.shape
        total = rows.inputs.shape[0]
        x = residual_norm(
            gathered_rows(items, rows.inputs),
            gathered_rows(self.positions, rows.positions, items.dtype),
            self.norm.weight,
            self.norm.bias,
            eps=LAYER_NORM_EPS,
        )
        (first,) = noise.sites(1)
        x = dropout(x, first["dropout"], first["seed"], branches)
        cu_seqlens = branch_segments(rows, branches)
        for block in self.blocks:
            x = block(
                x,
                cu_seqlens,
                max_seqlen=self.max_seq_len,
                mask="causal",
                sites=noise.sites(Block.SITES),
            )
        return x.view(branches, total, width)
