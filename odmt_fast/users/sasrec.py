"""One SASRec per branch, all branches in one batched call (paper section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odmt_fast.block import LAYER_NORM_EPS, Affine, Block
from odmt_fast.config import ModelConfig
from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.residual_norm import residual_norm
from odmt_fast.noise import Noise


@dataclass(frozen=True)
class Steps:
    """The valid input steps of some users, packed.

    Attributes:
        columns: int64 [M], column of each step's item in the item embeddings.
        positions: int64 [M], right-aligned position 0..S-1.
        offsets: int32 [B + 1], cu_seqlens of the users.
        longest: the most steps a user has.
    """

    columns: Tensor
    positions: Tensor
    offsets: Tensor
    longest: int


class UserEncoders(nn.Module):
    """K independent causal encoders with learned right-aligned positions.

    Args:
        config: the architecture.
        branches: K.
    """

    def __init__(self, config: ModelConfig, branches: int) -> None:
        super().__init__()
        width = config.width
        self.dropout = config.dropout
        self.positions = nn.Parameter(torch.empty(branches, config.max_seq_len, width))
        self.norm = Affine((branches, width), (branches, width))
        self.blocks = nn.ModuleList(
            Block(width, config.user_heads, branches) for _ in range(config.user_layers)
        )

    def forward(self, items: Tensor, steps: Steps, noise: Noise | None = None) -> Tensor:
        """Item embeddings [K, U, d] -> states [K, M, d] after every step.

        Args:
            items: of every branch.
            steps: which of them each user has.
            noise: of the step, in training mode; None draws one.
        """
        branches, _, width = items.shape
        rows = steps.columns.shape[0]
        if noise is None:
            noise = Noise(self.dropout if self.training else 0.0, None, items.device)
        x = residual_norm(
            _rows(items, steps.columns),
            _rows(self.positions.to(items.dtype), steps.positions),
            self.norm.weight,
            self.norm.bias,
            eps=LAYER_NORM_EPS,
        )
        (first,) = noise.sites(1)
        x = dropout(x, first["dropout"], first["seed"])
        # The users of branch k follow those of branch k - 1.
        branch = torch.arange(branches, dtype=torch.int32, device=items.device)
        offsets = (steps.offsets[:-1] + branch[:, None] * rows).reshape(-1)
        offsets = F.pad(offsets, (0, 1), value=branches * rows)
        for block in self.blocks:
            x = block(
                x,
                offsets,
                max_seqlen=steps.longest,
                mask="causal",
                sites=noise.sites(Block.SITES),
            )
        return x.view(branches, rows, width)


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """table [K, n, d] at index [M], for every k -> [K M, d]; the backward sums equal rows."""
    groups, n, width = table.shape
    shift = torch.arange(groups, device=index.device)[:, None] * n
    return F.embedding((index + shift).view(-1), table.reshape(groups * n, width))
