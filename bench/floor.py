"""The FLOP a step needs (DESIGN section 9): the floor, over a matmul rate (`bench.rates`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from odmt_fast import ModelConfig
from odmt_fast.batch.batch import Batch
from odmt_fast.features.tokens import PackedTokens


@dataclass(frozen=True)
class Work:
    """FLOP of one training step by stage, recomputation not counted."""

    items: float
    users: float
    loss: float

    @property
    def total(self) -> float:
        """FLOP of the whole step."""
        return self.items + self.users + self.loss


def needed_work(config: ModelConfig, batch: Batch, features: tuple[PackedTokens, ...]) -> Work:
    """FLOP of forward and backward that the batch needs, frozen features getting no gradient."""
    d = config.width
    branches = len(features) + 1
    items, rows = batch.items.shape[0], batch.n_rows
    tokens = sum(f.values.shape[0] for f in features)
    lengths = torch.stack([f.lengths for f in features]).sum(0) + 1
    full_layers = config.imt_layers - 1
    projections = sum(2 * 2 * f.values.shape[0] * f.values.shape[1] * d for f in features)
    projections += 6 * items * config.id_features * d
    full = 6 * (tokens + items) * 12 * d * d + 12 * float((lengths**2).sum()) * d
    readout = 6 * items * 12 * branches * d * d + 24 * branches * d * tokens
    heads = 12 * branches * d * d * items
    return Work(
        items=projections + full_layers * full + readout + heads,
        users=branches * 6 * rows * 12 * d * d * config.user_layers,
        loss=6 * branches * rows * items * d,
    )
