"""NextItNet (Yuan et al., WSDM 2019, arXiv 1808.05163): dilated causal convolutions.

Residual blocks of the paper's kind (b), every other one dilated by 1 and 2, the others by 4 and 8,
so that two blocks see 31 steps. Differences to the original: the states pass one linear map, since
their items are those of the input and no second table; LayerNorm's eps is 1e-6, not 1e-8; the
engine's dropout acts on the inputs (0 is the original).
"""

from __future__ import annotations

from itertools import cycle, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.gathered_rows import gathered_rows
from odmt_fast.kernels.linear import linear
from odmt_fast.models.block import Affine, layer_norm
from odmt_fast.models.initial import linear_default
from odmt_fast.models.noise import Noise
from odmt_fast.models.users.base import Rows, UserEncoder, steps

TAPS = 3
"""Steps a convolution reads, its own the last."""
DILATIONS = (1, 4)
"""Of the blocks in turn; the second convolution of a block doubles it."""


class Convolution(nn.Module):
    """K causal convolutions, each with LayerNorm and ReLU.

    Args:
        width: d, of inputs and outputs.
        branches: K.
        dilation: steps from tap to tap.
    """

    def __init__(self, width: int, branches: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        # [K, d, taps * d], the taps from the oldest on: one linear map of the steps side by side.
        self.taps = Affine((branches, width, TAPS * width), (branches, width))
        self.norm = Affine((branches, width), (branches, width))

    def initialise(self, generator: torch.Generator | None) -> None:
        """Uniform within 1 / sqrt(taps d), as ``torch.nn.Conv1d``."""
        linear_default(generator, self.taps.weight, self.taps.bias)
        self.norm.identity()

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """[K, M, d] -> [K, M, d]; `step` [M] is the row's step, and before step 0 all is zero."""
        read = [_earlier(x, step, back * self.dilation) for back in range(TAPS - 1, 0, -1)]
        side_by_side = torch.cat([*read, x], dim=2).flatten(0, 1)
        convolved = linear(side_by_side, self.taps.weight, self.taps.bias)
        return layer_norm(convolved, self.norm).relu().view_as(x)


def _earlier(x: Tensor, step: Tensor, distance: int) -> Tensor:
    """x [K, M, d] `distance` rows earlier, zero where the user had not begun."""
    shifted = F.pad(x, (0, 0, distance, 0))[:, : x.shape[1]]
    return torch.where((step >= distance)[:, None], shifted, 0.0)


class ResidualBlock(nn.Module):
    """x plus two convolutions of it, the second dilated twice as far."""

    def __init__(self, width: int, branches: int, dilation: int) -> None:
        super().__init__()
        self.first = Convolution(width, branches, dilation)
        self.second = Convolution(width, branches, 2 * dilation)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        """[K, M, d] -> [K, M, d]; `step` as in `Convolution`."""
        convolved: Tensor = self.second(self.first(x, step), step)
        return x + convolved


class NextItNet(UserEncoder):
    """K stacks of `ResidualBlock`.

    Args:
        config: the architecture; ``user_layers`` are residual blocks.
        branches: K.
    """

    def __init__(self, config: ModelConfig, branches: int) -> None:
        super().__init__(config.max_seq_len)
        width = config.width
        self.blocks = nn.ModuleList(
            ResidualBlock(width, branches, dilation)
            for dilation in islice(cycle(DILATIONS), config.user_layers)
        )
        self.out = Affine((branches, width, width), (branches, width))

    def initialise(self, generator: torch.Generator | None) -> None:
        """As torch does."""
        for module in self.blocks.modules():
            if isinstance(module, Convolution):
                module.initialise(generator)
        linear_default(generator, self.out.weight, self.out.bias)

    def forward(self, items: Tensor, rows: Rows, noise: Noise) -> Tensor:
        """Item embeddings [K, U, d] -> states [K, M, d] after every step."""
        branches, _, width = items.shape
        (first,) = noise.sites(1)
        x = dropout(gathered_rows(items, rows.inputs), first["dropout"], first["seed"], branches)
        x = x.view(branches, -1, width)
        step = steps(rows)
        for block in self.blocks:
            x = block(x, step)
        return linear(x.flatten(0, 1), self.out.weight, self.out.bias).view_as(x)
