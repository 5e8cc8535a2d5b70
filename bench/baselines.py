"""The tuned baseline: the official algorithm with SDPA, no padded slots, and torch.compile."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from odmt_fast.models.losses.distilled import ramp_up
from odmt_fast.official.modules import MASKED_LOGIT, MultiHeadAttention
from odmt_fast.official.reference import Model, distillation
from odmt_fast.official.state import prefix


class FusedAttention(MultiHeadAttention):
    """The reference attention through ``scaled_dot_product_attention``."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [n, L, d], additive mask [n, 1, L, L] -> [n, L, d]."""
        n, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(n, length, self.heads, -1).transpose(1, 2)

        q, k, v = split(self.w_Q(x)), split(self.w_K(x)), split(self.w_V(x))
        p = self.dropout.p if self.training else 0.0
        heads = F.scaled_dot_product_attention(q, k, v, mask.to(q.dtype), dropout_p=p)
        out = self.fc(heads.transpose(1, 2).reshape(n, length, width))
        return self.layer_norm(x + self.dropout(out))


class Tuned(torch.nn.Module):
    """The reference without its avoidable waste: every occurrence once, padded slots never.

    Args:
        model: the reference, whose parameters are used.
        compiled: wrap encoders in torch.compile.
    """

    def __init__(self, model: Model, *, compiled: bool) -> None:
        super().__init__()
        for module in model.modules():
            if isinstance(module, MultiHeadAttention):
                module.__class__ = FusedAttention
        self.model = model
        self._encode = torch.compile(model.encode_items) if compiled else model.encode_items
        self._users = {
            branch: torch.compile(model.get_submodule(f"{prefix(branch)}_user_encoder"))
            if compiled
            else model.get_submodule(f"{prefix(branch)}_user_encoder")
            for branch in model.branches
        }

    def forward(self, epoch: float, item_ids: Tensor, log_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The reference's two losses; only the work differs."""
        users, slots = item_ids.shape
        real = torch.cat([log_mask != 0, log_mask.new_ones(users, 1) != 0], dim=1)
        columns = item_ids[real]
        occurrence = real.view(-1).cumsum(0).view(users, slots) - 1
        valid = log_mask != 0
        target = occurrence[:, 1:][valid]
        embeddings = self._encode(columns)
        log_p = self.model.log_p.to(columns.device)[columns]
        seen = (item_ids[:, :, None] == columns).any(1).repeat_interleave(valid.sum(1), 0)
        seen.scatter_(1, target[:, None], False)
        logits = []
        for branch, e in zip(self.model.branches, embeddings, strict=True):
            padded = e.new_zeros(users, slots, e.shape[1])
            padded[real] = e
            states = self._users[branch](padded[:, :-1], log_mask, e.device)[valid]
            logits.append((states @ e.t() - log_p).masked_fill(seen, MASKED_LOGIT))
        ce = torch.stack([F.cross_entropy(z, target) for z in logits])
        tau = self.model.config.tau
        kd = [distillation(z, logits[0], tau) for z in logits[1:]]
        kd.append(distillation(logits[0], torch.stack(logits).mean(0), tau))
        return ce.sum(), ramp_up(epoch, self.model.config.alpha) * torch.stack(kd).sum()
