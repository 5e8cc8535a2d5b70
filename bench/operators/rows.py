"""Cases over the tokens of a batch of items: rows [R, d] of activations."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from bench.operators.case import Case, Run, Variant, leaf

TOKENS = 69
"""Of an item of the official sizes, on average."""


@dataclass(frozen=True)
class RowsCase(Case):
    """Random rows, and what else the operator takes.

    Attributes:
        dropout: probability; with dropout everybody draws other numbers.
    """

    dropout: float = 0.0

    @property
    def label(self) -> str:
        """Shape and dropout."""
        rows, width = self.shape
        dropout = f", dropout {self.dropout}" if self.dropout else ""
        return f"{rows:,} rows of {width}{dropout}"

    @property
    def shape(self) -> tuple[int, int]:
        """R, d: the official batch on a GPU, a part of it on a CPU."""
        return self.setting.size(tiny=(12, 32), cpu=(64 * TOKENS, 768), cuda=(722 * TOKENS, 768))

    @cached_property
    def seed(self) -> Tensor:
        """Of our dropout."""
        return torch.tensor([7], device=self.setting.device)

    @property
    def tensor_bytes(self) -> int:
        """Of one tensor of the shape."""
        return self.shape[0] * self.shape[1] * self.setting.dtype.itemsize

    @cached_property
    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """Inputs, the rows first; all get gradients."""

    @cached_property
    def upstream(self) -> Tensor:
        """Gradient of the output, as wide as the rows are."""
        return self.setting.randn(*self.shape)

    def run(self, function: Callable[..., Tensor]) -> Run:
        """`function` of the tensors."""
        leaves = leaf(*self.tensors)
        comparable = None if self.dropout else tuple
        return Run(lambda: function(*leaves), leaves, (self.upstream,), comparable)

    def against_torch(
        self, torch_way: Callable[..., Any], ours: Callable[..., Any]
    ) -> Iterator[Variant]:
        """torch eager, ours, torch compiled."""
        yield Variant("torch, eager", partial(self.run, torch_way))
        yield Variant("ours", partial(self.run, ours))
        yield from self.compiled("torch.compile", self.run, torch_way)
