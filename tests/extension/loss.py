"""A loss of somebody else: BPR against one other item of the batch, and the model around it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.config import ModelConfig
from odmt_fast.models.items.embedding import IdEmbedding
from odmt_fast.models.losses.base import Loss
from odmt_fast.models.zoo import Assembly, Sources


class Pairwise(Loss):
    """log sigmoid of the target's score over that of the next candidate."""

    def forward(
        self, states: Tensor, items: Tensor, batch: Batch, log_p: Tensor, epoch: float
    ) -> dict[str, Tensor]:
        wrong = (batch.targets + 1) % items.shape[1]
        margin = (states[0] * (items[0, batch.targets] - items[0, wrong])).sum(-1)
        return {"loss": -F.logsigmoid(margin).mean(), "margin": margin.mean()}


def pairwise(config: ModelConfig, n_items: int, sources: Sources) -> Assembly:
    return IdEmbedding(config, n_items), Pairwise()
