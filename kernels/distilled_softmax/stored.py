"""The engine that stores logits: matmul -> one pass over the rows -> matmul, chunk by chunk.

Shapes    queries [K, M, d], items [K, U, d]; logits [K, m, U] of m rows at a time, on a GPU in rows
          of whole 16s
Memory    at most `memory_budget` bytes of logits (one row's at least). When all rows fit they are
          kept from the forward to the backward and overwritten there by their gradients; otherwise
          the backward computes each chunk again.
Dtypes    products in the dtype of the inputs, statistics in fp32, d(items) summed over the chunks
          in fp32
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from odmt_fast.kernels.debiased_logits.passes import prepared
from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.distilled_softmax import rows
from odmt_fast.kernels.distilled_softmax.spec import Spec, scale_of_rows, stats_width
from odmt_fast.kernels.linear.libraries import bmm, narrow
from odmt_fast.kernels.linear.row_products import sum_of_row_products

_ALIGNED = 16
"""Elements."""


def rows_at_a_time(queries: Tensor, items: Tensor, memory_budget: int) -> int:
    """How many rows' logits the budget holds: M when all do, at least 1."""
    # Where bf16 products are computed in fp32, the logits stand beside themselves in fp32.
    logit_bytes = items.element_size() + (4 if narrow(items) else 0)
    row_bytes = items.shape[0] * row_stride(items) * logit_bytes
    return max(1, min(queries.shape[1], memory_budget // max(1, row_bytes)))


def row_stride(items: Tensor) -> int:
    """Elements from one row of logits to the next: U, on a GPU rounded up to 16.

    cuBLAS has its fast products only where every row begins at a multiple of 16 bytes.
    """
    columns = items.shape[1]
    return columns if items.device.type == "cpu" else -(-columns // _ALIGNED) * _ALIGNED


class _Chunks:
    """Row ranges with their logits, one buffer for all of them."""

    def __init__(self, queries: Tensor, items: Tensor, candidates: Candidates, spec: Spec) -> None:
        self.queries, self.items, self.candidates = queries, items, candidates
        self.size = rows_at_a_time(queries, items, spec.memory_budget)
        self.all_rows = self.size >= queries.shape[1]

    def __iter__(self) -> Iterator[tuple[slice, Candidates, Tensor]]:
        branches, n_rows, _ = self.queries.shape
        n_columns, stride = self.items.shape[1], row_stride(self.items)
        buffer = self.queries.new_empty(branches * self.size * stride)
        for start in range(0, n_rows, self.size):
            part = slice(start, min(start + self.size, n_rows))
            queries = self.queries[:, part]
            logits = buffer[: branches * queries.shape[1] * stride]
            logits = logits.view(branches, -1, stride)[..., :n_columns]
            if narrow(logits):
                logits.copy_(torch.bmm(queries.float(), self.items.float().transpose(1, 2)))
            else:
                torch.bmm(queries, self.items.transpose(1, 2), out=logits)
            yield part, self.candidates_of(part), logits

    def candidates_of(self, part: slice) -> Candidates:
        """The candidates seen from the rows of a part."""
        c = self.candidates
        return c._replace(targets=c.targets[part], row_user=c.row_user[part])


def forward(
    queries: Tensor, items: Tensor, candidates: Candidates, row_scale: Tensor | None, spec: Spec
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """ce [K], kd [E], the statistics of the rows [M, W], and the logits if all fit the budget."""
    branches, n_rows, _ = queries.shape
    chunks = _Chunks(queries, items, prepared(candidates), spec)
    stats = queries.new_empty((n_rows, stats_width(branches)), dtype=torch.float32)
    totals = queries.new_zeros(branches + len(spec.edges), dtype=torch.float64)
    scale = scale_of_rows(row_scale, queries, 1.0)
    kept = None
    for part, own, logits in chunks:
        rows.forward(logits, own, spec, scale[part], stats[part], totals)
        kept = logits if chunks.all_rows else None
    terms = (totals / n_rows if row_scale is None else totals).float()
    return terms[:branches].clone(), terms[branches:].clone(), stats, kept


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
    """d(queries), d(items); overwrites the logits when given them, else computes them again."""
    n_rows = queries.shape[1]
    chunks = _Chunks(queries, items, prepared(candidates), spec)
    upstream = upstream[0].float().contiguous(), upstream[1].float().contiguous()
    scale = scale_of_rows(row_scale, queries, 1.0 / n_rows)
    if chunks.all_rows:
        if logits is None:
            ((_, _, logits),) = chunks
        rows.backward(logits, logits, chunks.candidates, spec, scale, stats, upstream)
        return bmm(logits, items), sum_of_row_products(logits, queries)
    d_queries = torch.empty_like(queries)
    d_items = torch.zeros_like(items, dtype=torch.float32)
    for part, own, z in chunks:
        rows.backward(z, z, own, spec, scale[part], stats[part], upstream)
        d_queries[:, part] = bmm(z, items)
        d_items += sum_of_row_products(z, queries[:, part])
    return d_queries, d_items.to(items.dtype)
