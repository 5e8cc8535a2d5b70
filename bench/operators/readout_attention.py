"""Readout attention against its reference, eager and compiled: bound by copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.operators.case import Case, Run, Setting, Variant, Work, leaf
from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.readout_attention.reference import readout_attention_reference

READOUTS, HEADS = 3, 2


def cases(setting: Setting) -> Iterator[Case]:
    """The items of a batch, and many."""
    for items in setting.size(tiny=(4,), cpu=(64,), cuda=(722, 5000)):
        yield ReadoutAttention(setting, items)


@dataclass(frozen=True)
class ReadoutAttention(Case):
    """Items of uniform lengths."""

    operator = "readout_attention"
    items: int

    @property
    def bounds(self) -> tuple[int, int]:
        """Shortest and longest item."""
        return self.setting.size(tiny=(3, 9), cpu=(57, 81), cuda=(57, 81))

    @property
    def width(self) -> int:
        """d."""
        return self.setting.size(tiny=32, cpu=768, cuda=768)

    @property
    def label(self) -> str:
        """Items, their lengths, readouts."""
        shortest, longest = self.bounds
        return f"{self.items:,} items of {shortest}-{longest} tokens, {READOUTS} readouts"

    @cached_property
    def cu_seqlens(self) -> Tensor:
        """int32 [n + 1]."""
        shortest, longest = self.bounds
        generator = torch.Generator().manual_seed(0)
        lengths = torch.randint(shortest, longest + 1, (self.items,), generator=generator)
        return F.pad(lengths.cumsum(0), (1, 0)).to(self.setting.device, torch.int32)

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Queries [n, R, H, d] and hidden states [P, d]."""
        torch.manual_seed(0)
        queries = self.setting.randn(self.items, READOUTS, HEADS, self.width)
        return queries, self.setting.randn(int(self.cu_seqlens[-1]), self.width)

    @property
    def work(self) -> Work:
        """Two products forward, five backward; hidden states read twice and written once."""
        queries, hidden = self.tensors
        product = 2.0 * hidden.numel() * READOUTS * HEADS
        return Work(7 * product, 3 * hidden.nbytes + 5 * queries.nbytes)

    def variants(self) -> Iterator[Variant]:
        """The reference first."""
        yield Variant("reference, eager", partial(self._run, readout_attention_reference))
        yield Variant("ours", partial(self._run, readout_attention))
        seed = torch.tensor([7], device=self.setting.device)
        dropped = partial(readout_attention, dropout=0.1, seed=seed)
        yield Variant("ours, dropout 0.1", partial(self._run, dropped, comparable=None))
        yield from self.compiled("reference, torch.compile", self._run, readout_attention_reference)

    def _run(
        self,
        function: Callable[..., Tensor],
        comparable: Callable[..., tuple[Tensor, ...]] | None = tuple,
    ) -> Run:
        leaves = leaf(*self.tensors)
        options = {"max_seqlen": self.bounds[1], "mask": "asymmetric"}
        scale = (self.width // HEADS) ** -0.5

        def forward() -> Tensor:
            return function(*leaves, self.cu_seqlens, **options, scale=scale)

        return Run(forward, leaves, (torch.ones_like(leaves[0]),), comparable)
