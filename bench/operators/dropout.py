"""Dropout against torch, eager and compiled: bound by copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from bench.operators.case import Setting, Variant, Work
from bench.operators.rows import RowsCase
from odmt_fast.kernels.dropout import dropout


def cases(setting: Setting) -> Iterator[RowsCase]:
    """The tokens of a batch."""
    yield Dropout(setting, 0.1)


@dataclass(frozen=True)
class Dropout(RowsCase):
    """One read and one write in each direction; torch's backward also reads a stored mask."""

    operator = "dropout"

    @property
    def work(self) -> Work:
        """No products."""
        return Work(0.0, 4 * self.tensor_bytes)

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """The rows."""
        return (self.setting.randn(*self.shape),)

    def variants(self) -> Iterator[Variant]:
        """torch first."""
        yield from self.against_torch(
            lambda x: F.dropout(x, self.dropout), lambda x: dropout(x, self.dropout, self.seed)
        )
