"""Cross entropy over the candidates, debiased: the loss of every model without distillation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.kernels.debiased_logits import debiased_logits
from odmt_fast.models.losses.base import Loss
from odmt_fast.models.losses.columns import columns_of


class Softmax(Loss):
    """One cross entropy per branch, or (`fused`) one of the branches' mean score.

    Args:
        branches: K names.
        fused: train the ensemble itself (late fusion). Its score is one inner product of the
            branches' vectors side by side (DESIGN, identity 7).
    """

    weighs_rows = True

    def __init__(self, branches: Sequence[str], *, fused: bool = False) -> None:
        super().__init__()
        self.fused = fused and len(branches) > 1
        self.terms = ("ensemble",) if self.fused else tuple(branches)

    def forward(
        self, states: Tensor, items: Tensor, batch: Batch, log_p: Tensor, epoch: float
    ) -> dict[str, Tensor]:
        """``loss``, and where there are several branches ``<branch>/ce``."""
        if self.fused:
            items = items / items.shape[0]
            states, items = (x.transpose(0, 1).flatten(1)[None] for x in (states, items))
        items, columns = columns_of(items, batch, log_p)
        logits = debiased_logits(states, items, columns)
        ce = torch.stack([cross_entropy(z, columns.targets, batch.row_scale) for z in logits])
        if len(self.terms) == 1:
            return {"loss": ce[0]}
        named = {f"{name}/ce": term for name, term in zip(self.terms, ce, strict=True)}
        return {"loss": ce.sum(), **named}


def cross_entropy(logits: Tensor, targets: Tensor, row_scale: Tensor | None) -> Tensor:
    """The rows' cross entropies, each times its row_scale, summed; their mean without one."""
    if row_scale is None:
        return F.cross_entropy(logits, targets)
    terms = F.cross_entropy(logits, targets, reduction="none")
    return (terms * row_scale.to(terms.dtype)).sum()
