"""GRU4Rec (Hidasi et al. 2016): one GRU per branch, all branches in one grouped call."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.gathered_rows import gathered_rows
from odmt_fast.kernels.linear import linear
from odmt_fast.models.block import Affine
from odmt_fast.models.initial import linear_default
from odmt_fast.models.noise import Noise
from odmt_fast.models.users.base import Rows, UserEncoder, steps


class GRULayer(nn.Module):
    """K GRUs with the gates of ``torch.nn.GRU``; rows in, rows out.

    Args:
        width: d, of inputs and states.
        branches: K.
    """

    def __init__(self, width: int, branches: int) -> None:
        super().__init__()
        self.input = Affine((branches, 3 * width, width), (branches, 3 * width))
        self.state = Affine((branches, 3 * width, width), (branches, 3 * width))

    def initialise(self, generator: torch.Generator | None) -> None:
        """Uniform within 1 / sqrt(d), as torch does."""
        for part in (self.input, self.state):
            linear_default(generator, part.weight, part.bias)

    def forward(self, x: Tensor, slots: Tensor, steps: int, users: int) -> Tensor:
        """[K M, d] of branch after branch -> [K M, d].

        Args:
            x: inputs of the rows.
            slots: int64 [M], step * users + user of each row.
            steps: bound of a user's rows.
            users: B.
        """
        branches, _, width = self.state.weight.shape
        gates = linear(x, self.input.weight, self.input.bias).view(branches, -1, 3 * width)
        # Time-major and padded, so that a step is one slice; what is padded is never read back.
        padded = gates.new_zeros(branches, steps * users, 3 * width).index_copy(1, slots, gates)
        state = gates.new_zeros(branches * users, width)
        states = []
        for now in padded.view(branches, steps, users, 3 * width).unbind(1):
            r_in, z_in, n_in = now.reshape(branches * users, 3 * width).chunk(3, 1)
            r_h, z_h, n_h = linear(state, self.state.weight, self.state.bias).chunk(3, 1)
            update = torch.sigmoid(z_in + z_h)
            fresh = torch.tanh(n_in + torch.sigmoid(r_in + r_h) * n_h)
            state = fresh + update * (state - fresh)
            states.append(state.view(branches, users, width))
        return torch.cat(states, dim=1).index_select(1, slots).flatten(0, 1)


class GRU4Rec(UserEncoder):
    """Dropout on the inputs, GRU layers, one linear map.

    Args:
        config: the architecture; ``user_layers`` are GRU layers.
        branches: K.
    """

    def __init__(self, config: ModelConfig, branches: int) -> None:
        super().__init__(config.max_seq_len)
        width = config.width
        self.layers = nn.ModuleList(GRULayer(width, branches) for _ in range(config.user_layers))
        self.out = Affine((branches, width, width), (branches, width))

    def initialise(self, generator: torch.Generator | None) -> None:
        """As torch does."""
        for layer in self.layers:
            assert isinstance(layer, GRULayer)
            layer.initialise(generator)
        linear_default(generator, self.out.weight, self.out.bias)

    def forward(self, items: Tensor, rows: Rows, noise: Noise) -> Tensor:
        """Item embeddings [K, U, d] -> states [K, M, d] after every step."""
        branches, _, width = items.shape
        total, users = rows.inputs.shape[0], rows.cu_seqlens.shape[0] - 1
        slots = steps(rows) * users + rows.row_user
        (first,) = noise.sites(1)
        x = dropout(gathered_rows(items, rows.inputs), first["dropout"], first["seed"], branches)
        for layer in self.layers:
            x = layer(x, slots, rows.max_seqlen, users)
        return linear(x, self.out.weight, self.out.bias).view(branches, total, width)
