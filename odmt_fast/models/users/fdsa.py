"""FDSA (Zhang et al., IJCAI 2019): a stream of IDs and a stream of features, joined at the end.

The two streams are the branches of any backbone (officially self-attention); one linear map joins
their states, and the result is scored against the IDs. Differences to the original: features are
whole modalities, the streams are the engine's encoders, the loss is that of all models here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from odmt_fast.config import ModelConfig
from odmt_fast.kernels.gathered_rows import gathered_rows
from odmt_fast.kernels.linear import linear
from odmt_fast.models.block import Affine
from odmt_fast.models.initial import linear_default
from odmt_fast.models.noise import Noise
from odmt_fast.models.users.base import Histories, Rows, UserEncoder

STREAMS = 2


class FDSA(UserEncoder):
    """Reads items of width 2d, see `items.fdsa.IdAndFeatures`.

    Args:
        config: ``width`` is d.
        backbone: makes the user encoder of the two streams.
    """

    def __init__(
        self, config: ModelConfig, backbone: Callable[[ModelConfig, int], UserEncoder]
    ) -> None:
        super().__init__(config.max_seq_len)
        self.streams = backbone(config, STREAMS)
        self.join = Affine((config.width, STREAMS * config.width), (config.width,))

    def initialise(self, generator: torch.Generator | None) -> None:
        """Of the streams, then the join as torch does."""
        self.streams.initialise(generator)
        linear_default(generator, self.join.weight, self.join.bias)

    def forward(self, items: Tensor, rows: Rows, noise: Noise) -> Tensor:
        """Item embeddings [1, U, 2d] -> states [1, M, 2d] after every step.

        The second half of a state is zero: what is scored is the ID alone.
        """
        read = gathered_rows(items, rows.inputs)
        total, width = len(read), read.shape[1] // STREAMS
        own = Histories(
            inputs=torch.arange(total, device=read.device),
            positions=rows.positions,
            row_user=rows.row_user,
            cu_seqlens=rows.cu_seqlens,
            max_seqlen=rows.max_seqlen,
        )
        states = self.streams(read.view(total, STREAMS, width).transpose(0, 1), own, noise)
        both = states.transpose(0, 1).reshape(total, STREAMS * width)
        joined = linear(both, self.join.weight, self.join.bias)
        return F.pad(joined, (0, width))[None]
