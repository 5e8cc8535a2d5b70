"""Initial values: of stacked maps, every [out, in] matrix as it would be drawn alone; of IDs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig

Draw = Callable[["torch.Generator | None", Tensor, "Tensor | None"], None]
"""Fills a weight [..., out, in] and a bias [..., out] from a generator (None: torch's default)."""


def xavier_normal(
    generator: torch.Generator | None, weight: Tensor, bias: Tensor | None = None
) -> None:
    """Normal with variance 2 / (out + in); no bias."""
    fan_out, fan_in = weight.shape[-2:]
    nn.init.normal_(weight, std=math.sqrt(2 / (fan_in + fan_out)), generator=generator)
    if bias is not None:
        nn.init.zeros_(bias)


def linear_default(
    generator: torch.Generator | None, weight: Tensor, bias: Tensor | None = None
) -> None:
    """Uniform within 1 / sqrt(in), both; what ``nn.Linear`` does."""
    bound = 1 / math.sqrt(weight.shape[-1])
    for values in (weight, bias):
        if values is not None:
            nn.init.uniform_(values, -bound, bound, generator=generator)


def id_start(config: ModelConfig, firsts: Mapping[str, Tensor]) -> Tensor | None:
    """The ID table's first values from the first tokens [n_items + 1, d_m] of the modalities.

    The official code lets the table share the features' memory for `init` 2 and 3, so that training
    changes the first token too; a copy is taken here.

    Raises:
        ValueError: a modality that `ModelConfig.id_init` asks for is not among `firsts`.
    """
    if config.id_init == "xavier":
        return None
    wanted = ("text", "image") if config.id_init == "mean" else (config.id_init,)
    if absent := [name for name in wanted if name not in firsts]:
        raise ValueError(
            f"model.id_init={config.id_init} starts the IDs from {' and '.join(wanted)} features, "
            f"and there are none of {' and '.join(absent)}; use --set model.id_init=xavier"
        )
    return firsts[wanted[0]] if len(wanted) == 1 else (firsts["text"] + firsts["image"]) / 2
