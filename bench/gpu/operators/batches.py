"""The loss's problems: the columns of a realistic batch with random states and embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.gpu.case import Setting
from bench.workload import Workload
from odmt_fast.kernels.debiased_logits.reference import Candidates

BRANCHES = 3


@dataclass(frozen=True)
class LossProblem:
    """States [K, M, d] and embeddings [K, U, d] in bf16, and what the columns mean."""

    queries: Tensor
    items: Tensor
    columns: Candidates

    @classmethod
    def of(cls, setting: Setting, users: int) -> LossProblem:
        """The index arrays of `users` users of the workload, over a catalogue that grows with them.

        Scores have a standard deviation near 1, as those of a model early in training.
        """
        width = 32 if setting.tiny else 768
        batch = Workload(users=users, items=max(5000, 20 * users)).batch
        torch.manual_seed(0)
        n_items = batch.items.shape[0]
        log_p = torch.log_softmax(torch.randn(n_items), 0)
        columns = Candidates(
            log_p,
            batch.counts,
            batch.targets,
            batch.row_user,
            batch.history_offsets,
            batch.history,
        )
        bf16 = {"dtype": torch.bfloat16, "device": setting.device}
        return cls(
            torch.randn(BRANCHES, batch.n_rows, width, **bf16) * width**-0.5,
            torch.randn(BRANCHES, n_items, width, **bf16),
            Candidates(*(column.to(setting.device) for column in columns)),
        )

    @property
    def label(self) -> str:
        """Rows, columns, width."""
        _, rows, width = self.queries.shape
        return f"{rows:,} rows x {self.items.shape[1]:,} columns x {BRANCHES}, d {width}, bf16"

    @property
    def product(self) -> float:
        """FLOP of one product of all scores."""
        return 2.0 * self.queries.numel() * self.items.shape[1]

    @property
    def input_bytes(self) -> int:
        """Of states and embeddings."""
        return 2 * (self.queries.numel() + self.items.numel())

    @property
    def logits_bytes(self) -> int:
        """Of the scores of all branches."""
        return 2 * BRANCHES * self.queries.shape[1] * self.items.shape[1]

    def leaves(self) -> tuple[Tensor, Tensor]:
        """Copies of states and embeddings that want gradients."""
        return self.queries.clone().requires_grad_(), self.items.clone().requires_grad_()
