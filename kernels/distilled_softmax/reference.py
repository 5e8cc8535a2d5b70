"""The law of `distilled_softmax`: the loss on distinct columns, logits materialised, plain torch.

Shapes   queries [K, M, d], items [K, U, d] -> ce [K], kd [E]; K branches, M rows, U distinct items
Dtypes   products in the dtype of the inputs, the rest in fp32 (fp64 for fp64); any device; autograd
         does the gradients
Source   official model/model.py::kd_ce_loss and Model.forward, on distinct columns (README.md)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from odmt_fast.kernels.debiased_logits.reference import Candidates, debias, log_weights

ENSEMBLE = -1
"""The teacher that is the mean of all branches' logits."""

Edge = tuple[int, int]
"""(student branch, teacher branch or ENSEMBLE)."""


def distilled_softmax(
    queries: Tensor,
    items: Tensor,
    candidates: Candidates,
    *,
    tau: float,
    edges: Sequence[Edge],
    detach_teacher: bool = False,
    row_scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Per-branch cross entropy [K] and per-edge distillation loss [E]; op.py has the contract."""
    z = debias(torch.bmm(queries, items.transpose(1, 2)), candidates)
    rows = z.shape[1]
    if rows == 0:
        nothing = (queries.sum() + items.sum()).to(z.dtype) * 0.0
        return nothing.expand(len(z)), nothing.expand(len(edges))
    weights = log_weights(candidates, z.dtype)
    target = candidates.targets.expand(len(z), -1)[..., None]
    ce = torch.logsumexp(z + weights, -1) - z.gather(-1, target)[..., 0]

    def over_rows(terms: Tensor) -> Tensor:
        return terms.mean(-1) if row_scale is None else (terms * row_scale.to(terms.dtype)).sum(-1)

    softened = z / tau
    kd = []
    for student, teacher in edges:
        taught_by = softened.mean(0) if teacher == ENSEMBLE else softened[teacher]
        if detach_teacher:
            taught_by = taught_by.detach()
        share = torch.softmax(taught_by + weights, -1)
        log_sum = torch.logsumexp(softened[student] + weights, -1)
        kd.append(tau**2 * over_rows(log_sum - (share * softened[student]).sum(-1)))
    ce = over_rows(ce)
    return ce, torch.stack(kd) if kd else ce[:0]
