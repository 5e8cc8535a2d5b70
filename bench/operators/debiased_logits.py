"""Debiased logits against their reference, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from bench.operators.batches import BRANCHES, LossCase
from bench.operators.case import Run, Setting, Variant, Work, leaf
from odmt_fast.kernels.debiased_logits import debiased_logits
from odmt_fast.kernels.debiased_logits.reference import debiased_logits as reference


def cases(setting: Setting) -> Iterator[LossCase]:
    """Batches of users."""
    for users in setting.size(tiny=(4,), cpu=(64,), cuda=(128, 1024)):
        yield DebiasedLogits(setting, users)


@dataclass(frozen=True)
class DebiasedLogits(LossCase):
    """One batch."""

    operator = "debiased_logits"

    @property
    def work(self) -> Work:
        """Three products; inputs read twice, logits written once and their gradients read once."""
        return Work(3 * self.product, 3 * self.input_bytes + 2 * 4 * self.logits)

    @cached_property
    def upstream(self) -> Tensor:
        """Of the logits, in fp32 as they are."""
        queries, items = self.tensors
        shape = (BRANCHES, queries.shape[1], items.shape[1])
        return torch.randn(shape, device=self.setting.device)

    def variants(self) -> Iterator[Variant]:
        """The reference first."""
        yield Variant("reference, eager", partial(self._run, reference))
        yield Variant("ours", partial(self._run, debiased_logits))
        yield from self.compiled("reference, torch.compile", self._run, reference)

    def _run(self, function: Callable[..., Tensor]) -> Run:
        leaves = leaf(*self.tensors)
        return Run(lambda: function(*leaves, self.candidates), leaves, (self.upstream,))
