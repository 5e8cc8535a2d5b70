"""One modality alone, without IDs: the items of SASRec on texts, or on images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.kernels.linear import linear
from odmt_fast.models.initial import linear_default
from odmt_fast.models.items.base import ItemEncoder
from odmt_fast.models.items.pooled import mean_tokens
from odmt_fast.models.noise import Noise


class OneModality(ItemEncoder):
    """One branch: a linear map of the mean of an item's tokens.

    Args:
        config: ``width`` is the embedding's.
        name: of the modality, and of the branch.
        dim: width of its tokens.
    """

    def __init__(self, config: ModelConfig, name: str, dim: int) -> None:
        super().__init__()
        self.branches = self.modalities = (name,)
        self.projection = nn.Linear(dim, config.width)

    def initialise(self, generator: torch.Generator | None) -> None:
        """As torch does."""
        linear_default(generator, self.projection.weight, self.projection.bias)

    def forward(
        self, items: Tensor, features: tuple[PackedTokens, ...], dtype: torch.dtype, noise: Noise
    ) -> Tensor:
        """Embeddings [1, U, d] of distinct `items` (int64 [U])."""
        (tokens,) = features
        mean = mean_tokens(tokens, dtype)
        return linear(mean, self.projection.weight, self.projection.bias)[None]
