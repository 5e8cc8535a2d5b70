"""The loss terms of the latest steps, kept on the device until they are needed on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast.kernels.distilled_softmax import ENSEMBLE
from odmt_fast.objective import LossTerms, edges

GRADIENT_NORM = "gradient_norm"


def loss_columns(branches: Sequence[str]) -> tuple[str, ...]:
    """Names of what a step yields: the total, each CE, each KD, the norm of the gradient."""
    teachers = {**dict(enumerate(branches)), ENSEMBLE: "ensemble"}
    pairs = edges(len(branches))
    return (
        "loss",
        *(f"ce/{branch}" for branch in branches),
        *(f"kd/{branches[student]}_from_{teachers[teacher]}" for student, teacher in pairs),
        GRADIENT_NORM,
    )


class LossMeter:
    """A buffer of the last steps, one row each.

    Reading a loss makes the host wait for the device, so on a GPU it is done once per interval; on
    the CPU reading costs nothing.

    Args:
        columns: names of a row's entries, from `loss_columns`.
        capacity: steps of an interval.
        device: where the losses are.
    """

    def __init__(self, columns: Sequence[str], capacity: int, device: torch.device) -> None:
        self.columns = tuple(columns)
        self._capacity = capacity
        self._rows = torch.zeros(capacity, len(self.columns), dtype=torch.float64, device=device)
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether the interval is complete."""
        return self._count >= self._capacity

    def add(self, terms: LossTerms, gradient_norm: Tensor) -> None:
        """Appends the losses of a step, without waiting for them."""
        row = self._rows[self._count]
        values = (terms.total.view(1), terms.ce, terms.kd, gradient_norm.view(1))
        torch.cat([value.detach() for value in values], out=row)
        self._count += 1

    def rows(self, last: int | None = None) -> NDArray[np.float64]:
        """The steps of the interval so far, float64 [n, columns]; only the `last` few if given."""
        start = 0 if last is None else max(self._count - last, 0)
        rows: NDArray[np.float64] = self._rows[start : self._count].cpu().numpy()
        return rows

    def clear(self) -> None:
        """Begins a new interval."""
        self._count = 0

    def restore(self, rows: Tensor) -> None:
        """Goes on with the interval whose steps so far are `rows`, be they beyond the capacity."""
        self._rows = torch.cat([rows.to(self._rows), self._rows])
        self._count = len(rows)
