"""The FLOP a step needs (DESIGN section 9): the floor, over a matmul rate (`bench.rates`)."""

from __future__ import annotations

import torch

from odmt_fast import ModelConfig
from odmt_fast.batch.batch import Batch
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.models import work
from odmt_fast.models.work import Work


def needed_work(config: ModelConfig, batch: Batch, features: tuple[PackedTokens, ...]) -> Work:
    """FLOP of forward and backward that the batch needs, frozen features getting no gradient."""
    lengths = torch.stack([f.lengths for f in features]).sum(0) + 1
    return work.needed_work(
        config,
        [f.values.shape[1] for f in features],
        rows=batch.n_rows,
        items=batch.items.shape[0],
        tokens=[f.values.shape[0] for f in features],
        squares=float((lengths**2).sum()),
    )
