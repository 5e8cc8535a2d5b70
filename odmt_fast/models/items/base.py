"""What all item encoders share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.models.noise import Noise


def id_table(config: ModelConfig, n_items: int, width: int) -> nn.Embedding:
    """The embeddings of items 1..n_items; row 0 is padding."""
    sparse = config.id_table == "sparse"
    return nn.Embedding(n_items + 1, width, padding_idx=0, sparse=sparse)


class ItemEncoder(nn.Module):
    """Turns distinct items into one embedding per branch; subclasses define the two methods.

    Attributes:
        branches: names of the K embeddings an item gets.
        modalities: names of the token sources it reads, in order.
    """

    branches: tuple[str, ...]
    modalities: tuple[str, ...] = ()

    def forward(
        self, items: Tensor, features: tuple[PackedTokens, ...], dtype: torch.dtype, noise: Noise
    ) -> Tensor:
        """Embeddings [K, U, d] in `dtype`.

        Args:
            items: int64 [U], distinct ids without padding.
            features: tokens of the items, one entry per modality.
            dtype: of the computation; parameters keep theirs.
            noise: of the step.
        """
        raise NotImplementedError

    def initialise(self, generator: torch.Generator | None) -> None:
        """Draws the initial values; None draws from torch's default generator."""
        raise NotImplementedError
