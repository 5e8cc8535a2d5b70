"""The sub-modules of the official model, padded, as the official code writes them (modules.py)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from odmt_fast.config import ModelConfig

# Finite, so that a masked logit times a zero probability is zero (official model.py, modules.py).
MASKED_LOGIT = -1e4
MASKED_STEP = -1e9
LAYER_NORM_EPS = 1e-6


class MultiHeadAttention(nn.Module):
    """Post-norm multi-head attention without projection biases (official modules.py)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.w_Q = nn.Linear(width, width, bias=False)
        self.w_K = nn.Linear(width, width, bias=False)
        self.w_V = nn.Linear(width, width, bias=False)
        self.fc = nn.Linear(width, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [n, L, d], additive mask broadcastable to [n, heads, L, L] -> [n, L, d]."""
        n, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(n, length, self.heads, -1).transpose(1, 2)

        q, k, v = split(self.w_Q(x)), split(self.w_K(x)), split(self.w_V(x))
        scores = q @ k.transpose(-2, -1) / math.sqrt(width // self.heads) + mask
        heads = self.dropout(scores.softmax(-1)) @ v
        out = self.fc(heads.transpose(1, 2).reshape(n, length, width))
        return self.layer_norm(x + self.dropout(out))


class FeedForward(nn.Module):
    """Post-norm position-wise network d -> 4d -> d with ReLU (official modules.py)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, 4 * width)
        self.w_2 = nn.Linear(4 * width, width)
        self.layer_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d] -> [..., d]."""
        return self.layer_norm(x + self.dropout(self.w_2(F.relu(self.w_1(x)))))


class Block(nn.Module):
    """Attention, then feed-forward."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.multi_head_attention = MultiHeadAttention(width, heads, dropout)
        self.feed_forward = FeedForward(width, dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [n, L, d], additive mask -> [n, L, d]."""
        return self.feed_forward(self.multi_head_attention(x, mask))


class PositionalEncoder(nn.Module):
    """Learned absolute positions, LayerNorm, dropout, blocks (official modules.py)."""

    def __init__(self, steps: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.position_embedding = nn.Embedding(steps, width)
        self.dropout = nn.Dropout(dropout)
        self.layer_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.transformer_blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, S, d], additive mask [B, 1, S, S] -> [B, S, d]."""
        x = self.dropout(self.layer_norm(x + self.position_embedding.weight[: x.shape[1]]))
        for block in self.transformer_blocks:
            x = block(x, mask)
        return x


class UserEncoder(nn.Module):
    """SASRec over right-aligned item embeddings (official user_encoders.py)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.transformer_encoder = PositionalEncoder(
            config.max_seq_len,
            config.width,
            config.user_heads,
            config.user_layers,
            config.dropout,
        )
        self.initialise()

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draws the official initial values; None draws from torch's default generator."""
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.xavier_normal_(module.weight, generator=generator)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self, input_embs: Tensor, log_mask: Tensor, local_rank: torch.device | int | str = "cpu"
    ) -> Tensor:
        """input_embs [B, S, d], log_mask [B, S] (0 at padding) -> states [B, S, d]."""
        steps = log_mask.shape[1]
        causal = torch.ones(steps, steps, dtype=torch.bool, device=log_mask.device).tril()
        readable = (log_mask != 0)[:, None, None, :] & causal
        mask = torch.zeros(readable.shape, dtype=input_embs.dtype, device=input_embs.device)
        mask = mask.masked_fill(~readable.to(mask.device), MASKED_STEP)
        states: Tensor = self.transformer_encoder(input_embs, mask)
        return states


class ItemTransformer(nn.Module):
    """IMT: one Transformer over the tokens of an item (paper section 3.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.dropout = nn.Dropout(config.dropout)
        # The official module owns these two and never uses them; they travel in its checkpoints.
        self.layer_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.transformer_blocks = nn.ModuleList(
            Block(width, config.heads, config.dropout) for _ in range(config.imt_layers)
        )

    def forward(
        self, ids: Tensor, tokens: Sequence[Tensor], masks: Sequence[Tensor], *, asymmetric: bool
    ) -> list[Tensor]:
        """Fuses the representations of n items.

        Args:
            ids: [n, d], projected ID embeddings.
            tokens: one [n, T_m, d] per modality, projected.
            masks: one [n, T_m] per modality, 0 at tokens that must not be read.
            asymmetric: no text or image token reads the ID token.

        Returns:
            [n, d] for the ID token and for the first token of each modality, in this order.
        """
        x = self.dropout(torch.cat([*tokens, ids[:, None]], dim=1))
        length = x.shape[1]
        readable = torch.cat([*masks, ids.new_ones(ids.shape[0], 1)], dim=1) != 0
        readable = readable[:, None, None, :].expand(-1, 1, length, -1).clone()
        if asymmetric:
            readable[:, :, :-1, -1] = False
        mask = torch.zeros(readable.shape, dtype=x.dtype, device=x.device)
        mask = mask.masked_fill(~readable, MASKED_LOGIT)
        for block in self.transformer_blocks:
            x = block(x, mask)
        outputs, first = [x[:, -1]], 0
        for group in tokens:
            outputs.append(x[:, first])
            first += group.shape[1]
        return outputs


def branch_head(width: int) -> nn.Sequential:
    """The map behind each IMT output (official id_dnns, t_dnns, v_dnns)."""
    return nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width))
