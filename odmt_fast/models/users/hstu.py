"""HSTU (Zhai et al., ICML 2024, arXiv 2402.17152): pointwise attention, gated.

A layer is ``x + O(dropout(U * norm(A V)))`` with ``[U, V, Q, K] = SiLU(W norm(x))`` and
``A = SiLU(Q K^T + b) / S``, b a learned bias of the distance; the norms have no weights. As in the
authors' research code the inputs are ``sqrt(d) e + p``, with a learned position p. Differences to
it: no bias of the time between steps (a batch carries no times); positions count from the end; the
states are not scaled to length 1, for the loss is that of all models; matrices begin Xavier normal.

Attention is computed on users padded to the longest of the batch, in fp32 or wider: K B H L^2
numbers of memory a layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.gathered_rows import gathered_rows
from odmt_fast.kernels.linear import linear
from odmt_fast.models.block import LAYER_NORM_EPS, Affine
from odmt_fast.models.initial import xavier_normal
from odmt_fast.models.noise import Noise, Site
from odmt_fast.models.users.base import Rows, UserEncoder, steps


@dataclass(frozen=True)
class Slots:
    """Where the packed rows lie in users padded to L steps.

    Attributes:
        index: int64 [M], user * L + step of each row.
        users: B.
        steps: L.
    """

    index: Tensor
    users: int
    steps: int

    def pad(self, x: Tensor) -> Tensor:
        """[K, M, c] -> [K, B, L, c]; what is padded is zero and comes after the user's rows."""
        padded = x.new_zeros(len(x), self.users * self.steps, x.shape[2])
        return padded.index_copy(1, self.index, x).view(len(x), self.users, self.steps, -1)

    def pack(self, x: Tensor) -> Tensor:
        """The inverse of `pad`."""
        return x.flatten(1, 2).index_select(1, self.index)


class HSTULayer(nn.Module):
    """K independent layers.

    Args:
        width: d.
        heads: H; U, V, Q and K of a head are d / H wide.
        max_seq_len: S.
        branches: K.
    """

    def __init__(self, width: int, heads: int, max_seq_len: int, branches: int) -> None:
        super().__init__()
        self.heads, self.max_seq_len = heads, max_seq_len
        self.uvqk = nn.Parameter(torch.empty(branches, 4 * width, width))
        self.distance_bias = nn.Parameter(torch.empty(branches, max_seq_len))
        self.out = Affine((branches, width, width), (branches, width))

    def initialise(self, generator: torch.Generator | None) -> None:
        """Xavier normal for matrices, 0.02 for the distances as in the authors' code."""
        branches, _, width = self.uvqk.shape
        xavier_normal(generator, self.uvqk.view(branches, 4, width, width))
        nn.init.normal_(self.distance_bias, std=0.02, generator=generator)
        xavier_normal(generator, self.out.weight, self.out.bias)

    def forward(self, x: Tensor, slots: Slots, site: Site) -> Tensor:
        """[K M, d] -> [K M, d]."""
        width = x.shape[1]
        normal = F.layer_norm(x, (width,), eps=LAYER_NORM_EPS)
        uvqk = F.silu(linear(normal, self.uvqk))
        u, vqk = uvqk[:, :width], uvqk[:, width:]
        attended = F.layer_norm(self._attend(vqk, slots), (width,), eps=LAYER_NORM_EPS)
        gated = dropout(u * attended, site["dropout"], site["seed"], len(self.uvqk))
        return x + linear(gated, self.out.weight, self.out.bias)

    def _attend(self, vqk: Tensor, slots: Slots) -> Tensor:
        """V, Q and K of all heads side by side, [K M, 3d] -> [K M, d]."""
        branches, length = len(self.uvqk), slots.steps
        wide = vqk.to(torch.promote_types(vqk.dtype, torch.float32))
        padded = slots.pad(wide.view(branches, -1, wide.shape[1]))
        heads = padded.view(branches, slots.users, length, 3, self.heads, -1)
        v, q, k = heads.permute(3, 0, 1, 4, 2, 5)  # each [K, B, H, L, d / H]
        step = torch.arange(length, device=vqk.device)
        distance = (step[:, None] - step).clamp(min=0)
        bias = gathered_rows(self.distance_bias[..., None].to(wide.dtype), distance.view(-1))
        scores = q @ k.transpose(-1, -2) + bias.view(branches, 1, 1, length, length)
        # Causal is enough: whatever is padded comes later than every row that is read back.
        attended = (F.silu(scores) / self.max_seq_len).tril() @ v
        packed = slots.pack(attended.transpose(2, 3).flatten(3))
        return packed.flatten(0, 1).to(vqk.dtype)


class HSTU(UserEncoder):
    """K stacks of `HSTULayer`.

    Args:
        config: the architecture.
        branches: K.
    """

    def __init__(self, config: ModelConfig, branches: int) -> None:
        super().__init__(config.max_seq_len)
        width, most = config.width, config.max_seq_len
        self.positions = nn.Parameter(torch.empty(branches, most, width))
        self.layers = nn.ModuleList(
            HSTULayer(width, config.user_heads, most, branches) for _ in range(config.user_layers)
        )

    def initialise(self, generator: torch.Generator | None) -> None:
        """Normal with variance 1 / d for the positions, as in the authors' code."""
        nn.init.normal_(self.positions, std=self.positions.shape[2] ** -0.5, generator=generator)
        for layer in self.layers:
            assert isinstance(layer, HSTULayer)
            layer.initialise(generator)

    def forward(self, items: Tensor, rows: Rows, noise: Noise) -> Tensor:
        """Item embeddings [K, U, d] -> states [K, M, d] after every step."""
        branches, _, width = items.shape
        users = len(rows.cu_seqlens) - 1
        slots = Slots(rows.row_user * rows.max_seqlen + steps(rows), users, rows.max_seqlen)
        first, *sites = noise.sites(1 + len(self.layers))
        x = gathered_rows(items, rows.inputs) * math.sqrt(width)
        x = x + gathered_rows(self.positions, rows.positions, items.dtype)
        x = dropout(x, first["dropout"], first["seed"], branches)
        for layer, site in zip(self.layers, sites, strict=True):
            x = layer(x, slots, site)
        return x.view(branches, -1, width)
