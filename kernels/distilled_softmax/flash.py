"""The engine that stores no logits (Triton): statistics forward, panels of gradients backward."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.debiased_logits.passes import prepared
from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.distilled_softmax.spec import Spec, scale_of_rows


def forward(
    queries: Tensor, items: Tensor, candidates: Candidates, row_scale: Tensor | None, spec: Spec
) -> tuple[Tensor, Tensor, Tensor, None]:
    """ce [K], kd [E] and the statistics of the rows (W x M, in a tensor [M, W])."""
    from odmt_fast.kernels.distilled_softmax.fwd import distilled_softmax_fwd

    own = prepared(candidates)
    ce, kd, stats = distilled_softmax_fwd(
        queries.contiguous(), items.contiguous(), own, spec, row_scale
    )
    return ce, kd, stats, None


def backward(
    upstream: tuple[Tensor, Tensor],
    queries: Tensor,
    items: Tensor,
    candidates: Candidates,
    row_scale: Tensor | None,
    spec: Spec,
    stats: Tensor,
    logits: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """d(queries), d(items)."""
    from odmt_fast.kernels.distilled_softmax.bwd import distilled_softmax_bwd

    g_ce, g_kd = (g.to(torch.float32).contiguous() for g in upstream)
    own = prepared(candidates)
    scale = scale_of_rows(row_scale, queries, 1.0 / queries.shape[1])
    d_queries, d_items = distilled_softmax_bwd(
        (g_ce, g_kd), queries.contiguous(), items.contiguous(), own, spec, scale, stats
    )
    return d_queries, d_items.to(items.dtype)
