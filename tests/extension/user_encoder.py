"""A user encoder of somebody else: the mean of the items so far, mapped once."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.config import ModelConfig
from odmt_fast.kernels.gathered_rows import gathered_rows
from odmt_fast.kernels.linear import linear
from odmt_fast.models.block import Affine
from odmt_fast.models.initial import linear_default
from odmt_fast.models.noise import Noise
from odmt_fast.models.users.base import Rows, UserEncoder


class RunningMean(UserEncoder):
    """One linear map per branch over the mean of a user's items."""

    def __init__(self, config: ModelConfig, branches: int) -> None:
        super().__init__(config.max_seq_len)
        self.out = Affine((branches, config.width, config.width), (branches, config.width))

    def initialise(self, generator: torch.Generator | None) -> None:
        linear_default(generator, self.out.weight, self.out.bias)

    def forward(self, items: Tensor, rows: Rows, noise: Noise) -> Tensor:
        branches, _, width = items.shape
        x = gathered_rows(items, rows.inputs).view(branches, -1, width)
        total = torch.nn.functional.pad(x.cumsum(1), (0, 0, 1, 0))
        first = rows.cu_seqlens[rows.row_user].long()
        step = torch.arange(len(first), device=x.device)
        mean = (total[:, step + 1] - total[:, first]) / (step - first + 1)[:, None]
        return linear(mean.flatten(0, 1), self.out.weight, self.out.bias).view_as(x)
