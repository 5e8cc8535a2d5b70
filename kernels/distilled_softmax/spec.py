"""What the engines of `distilled_softmax` are asked to compute, beside the tensors."""

from __future__ import annotations

from dataclasses import dataclass

from odmt_fast.kernels.distilled_softmax.reference import Edge

MAX_BRANCHES = 5
MAX_EDGES = 32


@dataclass(frozen=True)
class Spec:
    """Temperature, edges, whether teachers get gradients, and the most bytes of logits to hold."""

    tau: float
    edges: tuple[Edge, ...]
    detach_teacher: bool
    memory_budget: int


def stats_width(branches: int) -> int:
    """fp32 statistics kept per row: tops, sums at 1, sums at tau, cross terms.

    ``top [K + 1], sum [K], soft [K + 1], cross [K + 1, K]``; entry K is the ensemble's. Without the
    edges that need it an entry holds nothing of meaning.
    """
    return 3 * branches + 2 + (branches + 1) * branches
