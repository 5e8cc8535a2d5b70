"""Blocks to call, and what every backend must do with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.transformer_block import (
    Seeds,
    Shape,
    Weights,
    readout_block,
    transformer_block,
)


@dataclass(frozen=True)
class Case:
    """Readouts of 0 are the whole block."""

    groups: int | None
    mask: str
    p: float
    readouts: int = 0

    def __str__(self) -> str:
        return f"{self.mask}-groups{self.groups}-p{self.p}-readouts{self.readouts}"


@dataclass(frozen=True)
class Problem:
    x: Tensor
    cu_seqlens: Tensor
    readouts: Tensor
    weights: Weights
    seeds: Seeds
    shape: Shape
    whole: bool

    def run(self, x: Tensor, *weights: Tensor) -> Tensor:
        """The block of these tensors and of all else that the problem has."""
        rest = Weights(*weights), self.seeds, self.shape
        if self.whole:
            return transformer_block(x, self.cu_seqlens, *rest)
        return readout_block(x, self.cu_seqlens, self.readouts, *rest)

    def changed(self, **fields: Any) -> Problem:
        """With other arguments, or another field of the shape."""
        of_shape = {name: fields.pop(name) for name in list(fields) if hasattr(self.shape, name)}
        return replace(self, shape=replace(self.shape, **of_shape), **fields)


def problem(case: Case, width: int = 32, hidden: int = 64, heads: int = 2) -> Problem:
    """Of float64, segments of 2 to 5 tokens."""
    torch.manual_seed(3)
    groups = case.groups or 1
    lengths = torch.tensor([3, 5, max(2, case.readouts), 4]).repeat(groups)
    of_group = () if case.groups is None else (case.groups,)
    ends = lengths.cumsum(0)
    firsts = ends - lengths

    def drawn(*shape: int, centre: float = 0.0) -> Tensor:
        values = torch.randn(*of_group, *shape, dtype=torch.float64)
        return centre + values / (shape[-1] ** 0.5 if len(shape) > 1 else 5.0)

    weights = Weights(
        qkv=drawn(3 * width, width),
        out=drawn(width, width),
        attention_norm=drawn(width, centre=1.0),
        attention_norm_bias=drawn(width),
        up=drawn(hidden, width),
        up_bias=drawn(hidden),
        down=drawn(width, hidden),
        down_bias=drawn(width),
        norm=drawn(width, centre=1.0),
        norm_bias=drawn(width),
    )
    seeds = tuple(torch.tensor([-(10**15) - n, 0]) for n in range(3)) if case.p else (None,) * 3
    return Problem(
        x=torch.randn(int(lengths.sum()), width, dtype=torch.float64),
        cu_seqlens=torch.nn.functional.pad(ends, (1, 0)).int(),
        # Of every segment the first tokens and the last one.
        readouts=torch.stack([*(firsts + n for n in range(case.readouts - 1)), ends - 1], dim=1),
        weights=weights,
        seeds=(seeds[0], seeds[1], seeds[2]),
        shape=Shape(heads, 5, case.mask, 1e-6, groups, (case.p,) * 3),
        whole=case.readouts == 0,
    )
