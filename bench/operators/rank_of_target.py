"""The rank of the target among a whole catalogue, against scoring and sorting."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from bench.operators.case import Case, Run, Setting, Tensors, Variant, Work
from odmt_fast.kernels.rank_of_target import rank_of_target
from odmt_fast.kernels.rank_of_target.reference import rank_of_target as reference

BRANCHES, HISTORY = 3, 10


def cases(setting: Setting) -> Iterator[Case]:
    """Users against a catalogue."""
    users, items = setting.size(tiny=(4, 30), cpu=(128, 20_000), cuda=(2048, 100_000))
    yield RankOfTarget(setting, users, items)


@dataclass(frozen=True)
class RankOfTarget(Case):
    """Random states and embeddings; every user has a history; there is no backward."""

    operator = "rank_of_target"
    users: int
    items: int

    @property
    def width(self) -> int:
        """d."""
        return self.setting.size(tiny=32, cpu=768, cuda=768)

    @property
    def label(self) -> str:
        """Users, items, branches."""
        return f"{self.users:,} users, {self.items:,} items, {BRANCHES} branches and the ensemble"

    @cached_property
    def tensors(self) -> Tensors:
        """queries [K, B, d], items [K, n, d], targets [B], history as CSR."""
        torch.manual_seed(0)
        queries = self.setting.randn(BRANCHES, self.users, self.width)
        items = self.setting.randn(BRANCHES, self.items, self.width)
        # Shuffled ids: a history without repeats, and the target not in it.
        drawn = torch.stack(
            [torch.randperm(self.items - 1)[: HISTORY + 1] for _ in range(self.users)]
        )
        drawn = (drawn + 1).to(self.setting.device)
        offsets = torch.arange(0, HISTORY * self.users + 1, HISTORY, device=self.setting.device)
        return queries, items, drawn[:, 0].contiguous(), offsets, drawn[:, 1:].reshape(-1)

    @property
    def work(self) -> Work:
        """One product; the scores need not be stored."""
        queries, items = self.tensors[:2]
        return Work(2.0 * queries.numel() * self.items, queries.nbytes + items.nbytes)

    def variants(self) -> Iterator[Variant]:
        """The one that sorts counts no ties: it is compared by its ranks alone."""
        yield Variant("reference, eager", partial(self._run, reference, "rank"))
        yield Variant("ours", partial(self._run, rank_of_target))
        yield Variant("torch, argsort", partial(self._run, by_sorting))
        yield from self.compiled("torch.compile, argsort", self._run, by_sorting)

    def _run(self, function: Callable[..., Tensors], *more: str) -> Run:
        def comparable(results: Tensors) -> Tensors:
            # Scores that are equal but for their rounding may change places.
            return (results[0].float().mean(1),)

        return Run(lambda: function(*self.tensors, *more), comparable=comparable)


def by_sorting(
    queries: Tensor, items: Tensor, targets: Tensor, offsets: Tensor, history: Tensor
) -> Tensors:
    """Scores, sorts, and looks for the target, as the official code does."""
    scores = queries @ items.transpose(1, 2)
    scores = torch.cat([scores, scores.mean(0, keepdim=True)])
    users = torch.arange(targets.shape[0], device=scores.device)
    scores[:, users.repeat_interleave(offsets.diff()), history] = -torch.inf
    scores[:, :, 0] = -torch.inf
    order = scores.argsort(-1, descending=True)
    return ((order == targets[:, None]).int().argmax(-1) + 1,)
