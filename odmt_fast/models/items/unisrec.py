"""UniSRec (Hou et al., KDD 2022, arXiv 2206.05941): features whitened and adapted by experts.

The paper's transductive setting: the adapted text plus an ID vector. Differences to the original:
every modality has an adaptor, and their outputs are summed (officially texts alone); a feature is
the mean of the tokens, not BERT's first; no noise on the gates and one dropout for all experts;
trained from scratch by the loss of all models here, without pre-training on other shops, and
scored by inner products, not cosines.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.linear import linear
from odmt_fast.models.initial import xavier_normal
from odmt_fast.models.items.base import ItemEncoder, id_table
from odmt_fast.models.items.pooled import mean_tokens
from odmt_fast.models.noise import Noise, Site

EXPERTS = 8
"""Whitenings of an adaptor, as officially."""


class Adaptor(nn.Module):
    """``sum_e g_e(x) W_e (x - b_e)``, the gates g a softmax of a linear map of x.

    Args:
        dim: width of x.
        width: d, of the output.
    """

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.whitening = nn.Parameter(torch.empty(EXPERTS, width, dim))
        self.centre = nn.Parameter(torch.empty(EXPERTS, dim))
        self.gates = nn.Parameter(torch.empty(EXPERTS, dim))

    def initialise(self, generator: torch.Generator | None) -> None:
        """Normal of 0.02 for the whitenings, all else 0, as officially."""
        nn.init.normal_(self.whitening, std=0.02, generator=generator)
        nn.init.zeros_(self.centre)
        nn.init.zeros_(self.gates)

    def forward(self, x: Tensor, site: Site) -> Tensor:
        """[U, dim] -> [U, d]; dropout acts on what is whitened, not on what is gated."""
        gates = linear(x, self.gates).softmax(1)
        # W (x - b) = W x - W b: all experts are one linear map.
        shift = -(self.whitening @ self.centre[..., None])
        kept = dropout(x, site["dropout"], site["seed"])
        whitened = linear(kept, self.whitening.flatten(0, 1), shift.flatten())
        return (gates[..., None] * whitened.view(len(x), EXPERTS, -1)).sum(1)


class UniSRec(ItemEncoder):
    """One branch: an ID vector plus the adapted features of every modality.

    Args:
        config: ``width`` is the embedding's.
        n_items: items are 1..n_items.
        feature_dims: modality -> width of its tokens.
    """

    branches = ("unisrec",)

    def __init__(self, config: ModelConfig, n_items: int, feature_dims: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = tuple(feature_dims)
        self.id_embedding = id_table(config, n_items, config.width)
        self.adaptors = nn.ModuleDict(
            {name: Adaptor(dim, config.width) for name, dim in feature_dims.items()}
        )

    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier normal for the IDs, the adaptors' own for the rest."""
        xavier_normal(generator, self.id_embedding.weight)
        for adaptor in self.adaptors.values():
            assert isinstance(adaptor, Adaptor)
            adaptor.initialise(generator)

    def forward(
        self, items: Tensor, features: tuple[PackedTokens, ...], dtype: torch.dtype, noise: Noise
    ) -> Tensor:
        """Embeddings [1, U, d] of distinct `items` (int64 [U])."""
        embedded: Tensor = self.id_embedding(items).to(dtype)
        sites = noise.sites(len(self.adaptors))
        for tokens, adaptor, site in zip(features, self.adaptors.values(), sites, strict=True):
            embedded = embedded + adaptor(mean_tokens(tokens, dtype), site)
        return embedded[None]
