"""The loss terms of the latest steps, kept on the device until they are needed on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

GRADIENT_NORM = "gradient_norm"


class LossMeter:
    """A buffer of the last steps, one row each; its columns are what the model names.

    Reading a loss makes the host wait for the device, so on a GPU it is done once per interval; on
    the CPU reading costs nothing.

    Args:
        capacity: steps of an interval.
        device: where the losses are.
        average: replaces rows by their means over the processes of the run; each row once, when it
            is looked at, by all of them together. None where there is one process.

    Attributes:
        columns: names of a row's entries, the norm of the gradient last; known from the first step.
    """

    def __init__(
        self,
        capacity: int,
        device: torch.device,
        average: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.columns: tuple[str, ...] = ()
        self._capacity = capacity
        self._rows = torch.zeros(0, 0, dtype=torch.float64, device=device)
        self._count = 0
        self._average, self._averaged = average, 0

    @property
    def full(self) -> bool:
        """Whether the interval is complete."""
        return self._count >= self._capacity

    def add(self, terms: Mapping[str, Tensor], gradient_norm: Tensor) -> None:
        """Appends the losses of a step, without waiting for them."""
        if not self.columns:
            self._begin((*terms, GRADIENT_NORM))
        values = [value.detach().view(1) for value in (*terms.values(), gradient_norm)]
        torch.cat(values, out=self._rows[self._count])
        self._count += 1

    def rows(self, last: int | None = None) -> NDArray[np.float64]:
        """The steps of the interval so far, float64 [n, columns]; only the `last` few if given."""
        if self._average is not None and self._averaged < self._count:
            self._average(self._rows[self._averaged : self._count])
        self._averaged = self._count
        start = 0 if last is None else max(self._count - last, 0)
        rows: NDArray[np.float64] = self._rows[start : self._count].cpu().numpy()
        return rows

    def clear(self) -> None:
        """Begins a new interval."""
        self._count = self._averaged = 0

    def restore(self, columns: Sequence[str], rows: Tensor) -> None:
        """Goes on with the interval whose steps so far are `rows`, be they beyond the capacity."""
        if columns:
            self._begin(tuple(columns))
            self._rows = torch.cat([rows.to(self._rows), self._rows])
            self._count = self._averaged = len(rows)

    def _begin(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._rows = self._rows.new_zeros(self._capacity, len(columns))
