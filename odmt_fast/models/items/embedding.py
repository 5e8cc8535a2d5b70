"""An embedding table of IDs: the items of SASRec, GRU4Rec and other models without features."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.models.initial import xavier_normal
from odmt_fast.models.items.base import ItemEncoder, id_table
from odmt_fast.models.noise import Noise


class IdEmbedding(ItemEncoder):
    """One branch: a row per item.

    Args:
        config: ``width`` is the embedding's.
        n_items: items are 1..n_items.
    """

    branches = ("id",)

    def __init__(self, config: ModelConfig, n_items: int) -> None:
        super().__init__()
        self.id_embedding = id_table(config, n_items, config.width)

    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier normal."""
        xavier_normal(generator, self.id_embedding.weight)

    def forward(
        self, items: Tensor, features: tuple[PackedTokens, ...], dtype: torch.dtype, noise: Noise
    ) -> Tensor:
        """Embeddings [1, U, d] of distinct `items` (int64 [U])."""
        embedded: Tensor = self.id_embedding(items).to(dtype)
        return embedded[None]
