"""The training objective over the distinct columns of a batch (paper section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.kernels.distilled_softmax import ENSEMBLE, Columns, distilled_softmax


@dataclass(frozen=True)
class LossTerms:
    """The loss of a batch and what it is made of.

    Attributes:
        total: scalar, ``ce.sum() + weight * kd.sum()``; the one to differentiate.
        ce: [K], cross entropy of each branch, mean over the rows.
        kd: [K], distillation of each edge, tau^2 included (see `edges`).
        weight: ramp-up weight of the distillation.
    """

    total: Tensor
    ce: Tensor
    kd: Tensor
    weight: float


def edges(branches: int) -> tuple[tuple[int, int], ...]:
    """(student, teacher) pairs: every modality learns from the ID branch, it from the ensemble.

    A branch alone has nobody to learn from: its loss is the cross entropy.
    """
    if branches == 1:
        return ()
    return (*((k, 0) for k in range(1, branches)), (0, ENSEMBLE))


def objective(
    states: Tensor,
    items: Tensor,
    batch: Batch,
    log_p: Tensor,
    *,
    tau: float,
    weight: float,
    detach_teacher: bool,
) -> LossTerms:
    """The loss of user states against the batch's distinct items.

    Args:
        states: [K, M, d] user states of the rows.
        items: [K, U, d] embeddings of the distinct items.
        batch: the index arrays.
        log_p: [U] log popularity of the distinct items.
        tau: temperature of the distillation.
        weight: ramp-up weight of this epoch.
        detach_teacher: stop the gradient into the teachers.
    """
    columns = Columns(
        log_p=log_p,
        counts=batch.counts,
        targets=batch.row_target,
        row_user=batch.row_user,
        history_offsets=batch.history_offsets,
        history=batch.history,
    )
    ce, kd = distilled_softmax(
        states,
        items,
        columns,
        tau=tau,
        edges=edges(states.shape[0]),
        detach_teacher=detach_teacher,
    )
    return LossTerms(ce.sum() + weight * kd.sum(), ce, kd, weight)
