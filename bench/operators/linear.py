"""The linear map of rows by master weights in fp32, against torch's of weights that are cast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.operators.case import Setting, Variant, Work
from bench.operators.rows import RowsCase
from odmt_fast.kernels.linear import linear


def cases(setting: Setting) -> Iterator[RowsCase]:
    """Query, key and value of the tokens of a batch in one map."""
    yield Linear(setting)


@dataclass(frozen=True)
class Linear(RowsCase):
    """d -> 3 d, no bias."""

    operator = "linear"

    @property
    def label(self) -> str:
        """Shapes."""
        return f"{super().label} -> {3 * self.shape[1]}"

    @property
    def work(self) -> Work:
        """Three products; x and y read or written twice, the weight three times."""
        (rows, width), wide = self.shape, 3 * self.shape[1]
        return Work(6.0 * rows * width * wide, 11 * self.tensor_bytes + 3 * 4 * width * wide)

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """x, W."""
        torch.manual_seed(0)
        width = self.shape[1]
        return self.setting.randn(*self.shape), self.setting.master(3 * width, width)

    @cached_property
    def upstream(self) -> Tensor:
        """Three times as wide as the rows."""
        return self.setting.randn(self.shape[0], 3 * self.shape[1])

    def variants(self) -> Iterator[Variant]:
        """torch first."""
        yield from self.against_torch(lambda x, w: F.linear(x, w.to(x.dtype)), linear)
