"""ID and the mean of every modality's tokens, apart (late fusion) or as one (early fusion)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.kernels.linear import linear
from odmt_fast.models.initial import linear_default, xavier_normal
from odmt_fast.models.items.base import ItemEncoder, id_table
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
        self.id_embedding = id_table(config, n_items, width)
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
            parts.append(linear(mean_tokens(tokens, dtype), layer.weight, layer.bias))
        if self.fusion is None:
            return torch.stack(parts)
        return linear(torch.cat(parts, dim=1), self.fusion.weight, self.fusion.bias)[None]


def mean_tokens(tokens: PackedTokens, dtype: torch.dtype) -> Tensor:
    """[U, d_f] mean of each item's tokens, summed in fp32 or wider.

    An item is summed by one thread, in order: no atomics. Its tokens are frozen, so that no
    gradient is needed.
    """
    values = tokens.values.to(torch.promote_types(dtype, torch.float32))
    # Unsafe only in that the lengths are not looked at, which would wait for a device.
    mean = torch.segment_reduce(values, "mean", lengths=tokens.lengths, axis=0, unsafe=True)
    return mean.to(dtype)
