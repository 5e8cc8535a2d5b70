"""The engine made of the reference: autograd through materialised logits, any dtype and device."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.debiased_logits.reference import Columns, accumulation_dtype
from odmt_fast.kernels.distilled_softmax.reference import distilled_softmax
from odmt_fast.kernels.distilled_softmax.spec import Spec, stats_width


def forward(
    queries: Tensor, items: Tensor, columns: Columns, spec: Spec
) -> tuple[Tensor, Tensor, Tensor, None]:
    """ce [K], kd [E], and statistics of which this engine needs none."""
    ce, kd = distilled_softmax(
        queries,
        items,
        columns,
        tau=spec.tau,
        edges=spec.edges,
        detach_teacher=spec.detach_teacher,
    )
    stats = ce.new_zeros((queries.shape[1], stats_width(len(queries))), dtype=torch.float32)
    return ce.contiguous(), kd.contiguous(), stats, None


def backward(
    upstream: tuple[Tensor, Tensor],
    queries: Tensor,
    items: Tensor,
    columns: Columns,
    spec: Spec,
    stats: Tensor,
    logits: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """d(queries), d(items), from a forward of its own."""
    with torch.enable_grad():
        leaves = queries.detach().requires_grad_(), items.detach().requires_grad_()
        ce, kd, _, _ = forward(*leaves, columns, spec)
    dtype = accumulation_dtype(queries.dtype)
    grads = [g.to(dtype) for g in upstream]
    d_queries, d_items = torch.autograd.grad((ce, kd), leaves, grads, materialize_grads=True)
    return d_queries, d_items
