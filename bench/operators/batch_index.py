"""Building the batch's index arrays on one core, against torch.unique and its like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from bench.operators.case import Case, Run, Setting, Tensors, Variant, Work
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.kernels.batch_index.reference import batch_index_reference

LENGTH = 13


def cases(setting: Setting) -> Iterator[Case]:
    """Users of a catalogue with a popular few; it runs on the host whatever the device is."""
    if setting.dtype == torch.float32 or setting.cuda:
        yield BatchIndex(setting, setting.size(tiny=8, cpu=4096, cuda=4096))


@dataclass(frozen=True)
class BatchIndex(Case):
    """Integers alone."""

    operator = "batch_index"
    users: int

    @property
    def label(self) -> str:
        """Users and items."""
        return f"{self.users:,} users of {LENGTH} items, on one core"

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Item ids and lengths."""
        generator = torch.Generator().manual_seed(1)
        weights = 1 / torch.arange(1, 20_001, dtype=torch.float64)
        ids = torch.multinomial(weights, self.users * LENGTH, True, generator=generator) + 1
        return ids, torch.full((self.users,), LENGTH)

    @property
    def work(self) -> Work:
        """Ids and lengths read once, the arrays written once."""
        made = sum(
            x.nbytes for x in batch_index(*self.tensors, LENGTH - 1) if isinstance(x, Tensor)
        )
        return Work(0.0, made + sum(tensor.nbytes for tensor in self.tensors))

    def variants(self) -> Iterator[Variant]:
        """torch first."""
        yield Variant("torch, eager", partial(self._run, batch_index_reference))
        yield Variant("ours", partial(self._run, batch_index))

    def _run(self, function: Callable[..., Any]) -> Run:
        def forward() -> Tensors:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                made = function(*self.tensors, LENGTH - 1)
            finally:
                torch.set_num_threads(threads)
            return tuple(x for x in made if isinstance(x, Tensor))

        return Run(forward)
