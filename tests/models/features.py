"""A catalogue with ragged token features, and models on it in float64, for the tests of items."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.config import ModelConfig
from odmt_fast.features.tokens import TokenTable
from odmt_fast.models import SequentialModel
from odmt_fast.models.zoo import build

N_ITEMS, WIDTH, STEPS, DIMS = 9, 8, 4, {"text": 5, "image": 6}


def catalogue(modalities: tuple[str, ...] = ("text", "image")) -> dict[str, TokenTable]:
    """One to three tokens an item, float64."""
    generator = torch.Generator().manual_seed(4)
    sources = {}
    for name in modalities:
        tokens = torch.randn(N_ITEMS + 1, 3, DIMS[name], dtype=torch.float64, generator=generator)
        lengths = torch.randint(1, 4, (N_ITEMS + 1,), generator=generator)
        sources[name] = TokenTable.from_padded(tokens, torch.arange(3) < lengths[:, None])
    return sources


def means(source: TokenTable) -> Tensor:
    """[n_items, d_f] mean token of items 1, 2, .., one by one."""
    bounds = source.offsets[1:].tolist()
    return torch.stack(
        [source.values[a:b].mean(0) for a, b in zip(bounds, bounds[1:], strict=False)]
    )


def model(name: str, sources: dict[str, TokenTable]) -> SequentialModel:
    """Every parameter away from where it starts."""
    config = ModelConfig(name=name, width=WIDTH, max_seq_len=STEPS, user_layers=1)
    generator = torch.Generator().manual_seed(5)
    made = build(config, torch.ones(N_ITEMS + 1) / N_ITEMS, sources, generator=generator).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return made
