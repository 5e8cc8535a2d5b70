"""ID and the mean of every modality's tokens, apart (late fusion) or as one (early fusion)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.kernels.linear import linear
from odmt_fast.models.initial import linear_default, xavier_normal
from odmt_fast.models.items.base import ItemEncoder
from odmt_fast.models.noise import Noise


class Pooled(ItemEncoder):
    """The baselines EF and LF of the paper (section 4.1.2): no item Transformer.

    Args:
        config: the architecture.
        n_items: items are 1..n_items.
        feature_dims: modality -> width of its tokens.
        fused: concatenate all and map them to one embedding, branch "fused"; else one branch each.
    """

    def __init__(
        self, config: ModelConfig, n_items: int, feature_dims: Mapping[str, int], *, fused: bool
    ) -> None:
        super().__init__()
        width, parts = config.width, 1 + len(feature_dims)
        self.modalities = tuple(feature_dims)
        self.branches = ("fused",) if fused else ("id", *feature_dims)
        self.id_embedding = nn.Embedding(n_items + 1, width, padding_idx=0)
        self.projections = nn.ModuleDict(
            {name: nn.Linear(dim, width) for name, dim in feature_dims.items()}
        )
        self.fusion = nn.Linear(parts * width, width) if fused else None

    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier normal for the IDs, torch's defaults for the maps."""
        xavier_normal(generator, self.id_embedding.weight)
        for layer in (*self.projections.values(), *([self.fusion] if self.fusion else ())):
            assert isinstance(layer, nn.Linear)
            linear_default(generator, layer.weight, layer.bias)

    def forward(
        self, items: Tensor, features: tuple[PackedTokens, ...], dtype: torch.dtype, noise: Noise
    ) -> Tensor:
        """Embeddings [1 or K, U, d] of distinct `items` (int64 [U])."""
        parts = [self.id_embedding(items).to(dtype)]
        for tokens, layer in zip(features, self.projections.values(), strict=True):
            assert isinstance(layer, nn.Linear)
            parts.append(linear(_mean(tokens, dtype), layer.weight, layer.bias))
        if self.fusion is None:
            return torch.stack(parts)
        return linear(torch.cat(parts, dim=1), self.fusion.weight, self.fusion.bias)[None]


def _mean(tokens: PackedTokens, dtype: torch.dtype) -> Tensor:
    """[U, d_f] mean of each item's tokens, summed in fp32."""
    lengths, values = tokens.lengths, tokens.values
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    owner = torch.arange(lengths.shape[0], device=lengths.device)
    owner = owner.repeat_interleave(lengths, output_size=values.shape[0])
    total = values.new_zeros(lengths.shape[0], values.shape[1], dtype=wide)
    return (total.index_add(0, owner, values.to(wide)) / lengths[:, None]).to(dtype)
