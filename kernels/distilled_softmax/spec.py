"""What the engines of `distilled_softmax` are asked to compute, beside the tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from odmt_fast.kernels.distilled_softmax.reference import ENSEMBLE, Edge

MAX_BRANCHES = 5
MAX_EDGES = 32


@dataclass(frozen=True)
class Spec:
    """Temperature, edges, whether teachers get gradients, and the most bytes of logits to hold."""

    tau: float
    edges: tuple[Edge, ...]
    detach_teacher: bool
    memory_budget: int

    SIGNATURE: ClassVar[str] = (
        "float tau, int[] students, int[] teachers, bool detach_teacher, SymInt memory_budget"
    )

    @property
    def settings(self) -> tuple[Any, ...]:
        """As the arguments of `SIGNATURE`."""
        students, teachers = ([edge[side] for edge in self.edges] for side in (0, 1))
        return self.tau, students, teachers, self.detach_teacher, self.memory_budget

    @classmethod
    def of(cls, tau: float, students: Sequence[int], teachers: Sequence[int], *rest: Any) -> Spec:
        """Of the arguments of `SIGNATURE`."""
        return cls(tau, tuple(zip(students, teachers, strict=True)), *rest)


def scale_of_rows(row_scale: Tensor | None, queries: Tensor, otherwise: float) -> Tensor:
    """row_scale as the engines read it: contiguous fp32 [M]; of `otherwise` when there is none."""
    if row_scale is None:
        return queries.new_full(queries.shape[1:2], otherwise, dtype=torch.float32)
    return row_scale.float().contiguous()


def stats_width(branches: int) -> int:
    """fp32 statistics kept per row: tops, sums at 1, sums at tau, cross terms.

    ``top [K + 1], sum [K], soft [K + 1], cross [K + 1, K]``; entry K is the ensemble's. Without the
    edges that need it an entry holds nothing of meaning.
    """
    return 3 * branches + 2 + (branches + 1) * branches


@dataclass(frozen=True)
class Distillation:
    """The distinct (student, teacher) pairs of an edge list; the ensemble is teacher K."""

    students: tuple[int, ...]
    teachers: tuple[int, ...]
    edge_to_pair: tuple[int, ...]
    softened: tuple[bool, ...]  # [K + 1], whose softmax at tau is needed

    @classmethod
    @cache
    def of(cls, edges: tuple[Edge, ...], branches: int) -> Distillation:
        """The pairs of the edges in the order they first appear."""
        named = [(s, branches if t == ENSEMBLE else t) for s, t in edges]
        pairs = list(dict.fromkeys(named))
        used = {branch for pair in pairs for branch in pair}
        return cls(
            students=tuple(s for s, _ in pairs),
            teachers=tuple(t for _, t in pairs),
            edge_to_pair=tuple(pairs.index(edge) for edge in named),
            softened=tuple(t in used for t in range(branches + 1)),
        )

    def per_pair(self, per_edge: Tensor) -> Tensor:
        """Sums of a value of every edge [E] over equal edges: [P]."""
        if len(self.students) == len(self.edge_to_pair):
            return per_edge
        sums = [
            sum(per_edge[e] for e, own in enumerate(self.edge_to_pair) if own == pair)
            for pair in range(len(self.students))
        ]
        return torch.stack([s for s in sums if isinstance(s, Tensor)])
