"""An item encoder of somebody else: IDs hashed into a small table, and the model around it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.models.initial import xavier_normal
from odmt_fast.models.items.base import ItemEncoder
from odmt_fast.models.losses.softmax import Softmax
from odmt_fast.models.noise import Noise
from odmt_fast.models.zoo import Assembly, Sources


class Hashed(ItemEncoder):
    """One branch; items share 7 rows."""

    branches = ("hashed",)

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(7, config.width))

    def initialise(self, generator: torch.Generator | None) -> None:
        xavier_normal(generator, self.table)

    def forward(
        self, items: Tensor, features: tuple[PackedTokens, ...], dtype: torch.dtype, noise: Noise
    ) -> Tensor:
        return self.table[items % 7].to(dtype)[None]


def hashed(config: ModelConfig, n_items: int, sources: Sources) -> Assembly:
    return Hashed(config), Softmax(Hashed.branches)
