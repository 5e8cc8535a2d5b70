"""Initial values of stacked maps: every [out, in] matrix as it would be drawn alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

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
