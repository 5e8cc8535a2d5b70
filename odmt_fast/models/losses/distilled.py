"""Cross entropy of every branch and online distillation between them (paper section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.kernels.distilled_softmax import ENSEMBLE, distilled_softmax
from odmt_fast.models.losses.base import Loss
from odmt_fast.models.losses.columns import columns_of


class DistilledSoftmax(Loss):
    """``sum CE + w(epoch) sum KD``: every modality learns from the ID branch, it from the ensemble.

    Args:
        branches: K names, the ID branch first.
        tau: temperature of the distillation.
        alpha: see `ramp_up`.
        detach_teacher: stop the gradient into the teachers; officially it flows.
    """

    weighs_rows = True

    def __init__(
        self, branches: Sequence[str], *, tau: float, alpha: float, detach_teacher: bool = False
    ) -> None:
        super().__init__()
        self.branches = tuple(branches)
        self.tau, self.alpha, self.detach_teacher = tau, alpha, detach_teacher
        self.edges = edges(len(self.branches))

    def kd_weight(self, epoch: float) -> float:
        """Of the distillation, see `ramp_up`."""
        return ramp_up(epoch, self.alpha)

    def forward(
        self, states: Tensor, items: Tensor, batch: Batch, log_p: Tensor, epoch: float
    ) -> dict[str, Tensor]:
        """``loss``, ``<branch>/ce``, ``<student>/kd`` (tau^2 included) and ``kd_weight``."""
        items, columns = columns_of(items, batch, log_p)
        ce, kd = distilled_softmax(
            states,
            items,
            columns,
            tau=self.tau,
            edges=self.edges,
            detach_teacher=self.detach_teacher,
            row_scale=batch.row_scale,
        )
        if batch.kd_weight is None:
            weight = kd.new_full((), self.kd_weight(epoch))  # a fill: nothing is copied to a device
        else:
            weight = batch.kd_weight[0].to(kd.dtype)
        students = [self.branches[student] for student, _ in self.edges]
        return {
            "loss": ce.sum() + weight * kd.sum(),
            **{f"{name}/ce": term for name, term in zip(self.branches, ce, strict=True)},
            **{f"{name}/kd": term for name, term in zip(students, kd, strict=True)},
            "kd_weight": weight,
        }


def edges(branches: int) -> tuple[tuple[int, int], ...]:
    """(student, teacher) pairs: every modality learns from the ID branch, it from the ensemble.

    A branch alone has nobody to learn from.
    """
    if branches == 1:
        return ()
    return (*((k, 0) for k in range(1, branches)), (0, ENSEMBLE))


def ramp_up(epoch: float, alpha: float) -> float:
    """w = exp(-5 (1 - min(epoch, alpha) / alpha)^2) for alpha >= 1, else the constant alpha.

    Source: official ``model.py::sigmoid_rampup``.
    """
    if alpha < 1:
        return alpha
    phase = 1.0 - min(max(epoch, 0.0), alpha) / alpha
    return math.exp(-5.0 * phase * phase)
