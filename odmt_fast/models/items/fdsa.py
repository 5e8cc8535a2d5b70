"""The items of FDSA: an ID vector and a feature vector, side by side (see `users.fdsa`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.kernels.linear import linear
from odmt_fast.models.initial import linear_default, xavier_normal
from odmt_fast.models.items.base import ItemEncoder, id_table
from odmt_fast.models.items.pooled import mean_tokens
from odmt_fast.models.noise import Noise


class IdAndFeatures(ItemEncoder):
    """One branch of width 2d: the item's ID vector, then its features weighed by attention.

    A feature is a modality: the mean of its tokens, mapped to a_m of width d. The feature vector is
    ``sum_m softmax_m(w . a_m) a_m``, the paper's vanilla attention with one learned vector w; its
    features are categories and brands with embeddings.

    Args:
        config: ``width`` is d.
        n_items: items are 1..n_items.
        feature_dims: modality -> width of its tokens, at least one.
    """

    branches = ("fdsa",)

    def __init__(self, config: ModelConfig, n_items: int, feature_dims: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = tuple(feature_dims)
        self.id_embedding = id_table(config, n_items, config.width)
        self.projections = nn.ModuleDict(
            {name: nn.Linear(dim, config.width) for name, dim in feature_dims.items()}
        )
        self.attention = nn.Parameter(torch.empty(config.width))

    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier normal for the IDs, torch's defaults for the maps; features begin equal."""
        xavier_normal(generator, self.id_embedding.weight)
        for layer in self.projections.values():
            assert isinstance(layer, nn.Linear)
            linear_default(generator, layer.weight, layer.bias)
        nn.init.zeros_(self.attention)

    def forward(
        self, items: Tensor, features: tuple[PackedTokens, ...], dtype: torch.dtype, noise: Noise
    ) -> Tensor:
        """Embeddings [1, U, 2d] of distinct `items` (int64 [U])."""
        projected = []
        for tokens, layer in zip(features, self.projections.values(), strict=True):
            assert isinstance(layer, nn.Linear)
            projected.append(linear(mean_tokens(tokens, dtype), layer.weight, layer.bias))
        each = torch.stack(projected)  # [modalities, U, d]
        weights = (each * self.attention.to(dtype)).sum(-1, keepdim=True).softmax(0)
        ids = self.id_embedding(items).to(dtype)
        return torch.cat((ids, (weights * each).sum(0)), dim=1)[None]
