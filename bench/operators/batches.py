"""The loss's problems: the columns of a realistic batch with random states and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bench.operators.case import Case
from bench.workload import Workload
from odmt_fast.kernels.debiased_logits.reference import Candidates

BRANCHES = 3


@dataclass(frozen=True)
class LossCase(Case):
    """States [K, M, d] and embeddings [K, U, d] of `users` users, and their candidates.

    The catalogue grows with the users. Scores have a standard deviation near 1, as those of a model
    early in training.
    """

    users: int

    @property
    def label(self) -> str:
        """Users and width."""
        return f"{self.users:,} users, {BRANCHES} branches, d {self.width}"

    @property
    def width(self) -> int:
        """Official but in tiny."""
        return self.setting.size(tiny=32, cpu=768, cuda=768)

    @cached_property
    def workload(self) -> Workload:
        """Whose index arrays are used."""
        return Workload(users=self.users, items=max(5000, 20 * self.users))

    @cached_property
    def candidates(self) -> Candidates:
        """On the device."""
        batch = self.workload.batch
        torch.manual_seed(0)
        log_p = torch.log_softmax(torch.randn(batch.items.shape[0]), 0)
        of_batch = (batch.counts, batch.targets, batch.row_user, batch.history_offsets)
        candidates = Candidates(log_p, *of_batch, batch.history)
        return Candidates(*(column.to(self.setting.device) for column in candidates))

    @cached_property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """States and embeddings."""
        rows, items = self.workload.batch.n_rows, self.workload.batch.items.shape[0]
        torch.manual_seed(0)
        queries = self.setting.randn(BRANCHES, rows, self.width) * self.width**-0.5
        return queries, self.setting.randn(BRANCHES, items, self.width)

    @property
    def product(self) -> float:
        """FLOP of one product of all scores."""
        queries, items = self.tensors
        return 2.0 * queries.numel() * items.shape[1]

    @property
    def input_bytes(self) -> int:
        """Of states and embeddings."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def logits(self) -> int:
        """Scores of all branches."""
        queries, items = self.tensors
        return BRANCHES * queries.shape[1] * items.shape[1]
