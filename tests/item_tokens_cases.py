"""Arguments of `item_tokens`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from odmt_fast.kernels.item_tokens import item_tokens


class Given(NamedTuple):
    values: tuple[Tensor, ...]
    lengths: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def run(self, *tensors: Tensor, p: float, seed: Tensor) -> Tensor:
        """Of other values, weights and biases, one after the other."""
        count = len(self.values)
        parts = [tensors[first : first + count] for first in range(0, len(tensors), count)]
        values, weights, biases = parts
        return item_tokens(values, self.lengths, weights, biases, dropout=p, seed=seed).x


def given(
    lengths: tuple[tuple[int, ...], ...] = ((2, 1, 3), (1, 1, 4)),
    width: int = 8,
    dims: tuple[int, ...] = (6, 4, 5),
) -> Given:
    """Float64, `lengths` per modality, `dims` of the modalities and of the IDs."""
    torch.manual_seed(len(lengths[0]))
    counts = [*(sum(own) for own in lengths), len(lengths[0])]

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64) / shape[-1] ** 0.5

    return Given(
        tuple(drawn(count, dim) for count, dim in zip(counts, dims, strict=True)),
        tuple(torch.tensor(own, dtype=torch.int64) for own in lengths),
        tuple(drawn(width, dim) for dim in dims),
        tuple(drawn(width) for _ in dims),
    )
