"""`distilled_softmax`: checks and choice of the backend."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from odmt_fast.kernels.backend import choose, runs_anywhere
from odmt_fast.kernels.debiased_logits.reference import Columns
from odmt_fast.kernels.distilled_softmax import reference
from odmt_fast.kernels.distilled_softmax.reference import Edge

MEMORY_BUDGET_BYTES = 256 * 2**20
"""Most bytes of logits held at a time."""


def distilled_softmax(
    queries: Tensor,
    items: Tensor,
    columns: Columns,
    *,
    tau: float,
    edges: Sequence[Edge],
    detach_teacher: bool = False,
    memory_budget: int = MEMORY_BUDGET_BYTES,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of every branch and distillation loss of every edge, means over the rows.

    Args:
        queries: [K, M, d] user states, fp32 | bf16 | fp16 | fp64.
        items: [K, U, d] embeddings of the distinct items, same dtype.
        columns: what the columns mean, see `Columns`.
        tau: temperature of the distillation.
        edges: (student branch, teacher branch or ENSEMBLE) pairs.
        detach_teacher: stop the gradient on the teacher's side.
        memory_budget: most bytes of logits held at a time.

    Returns:
        ce [K] and kd [E] (kd includes tau**2), fp32 (fp64 for fp64); zeros when M = 0.
    """
    choose("distilled_softmax", queries.device.type, {"reference": runs_anywhere})
    return reference.distilled_softmax(
        queries, items, columns, tau=tau, edges=edges, detach_teacher=detach_teacher
    )
