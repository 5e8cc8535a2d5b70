"""The training batch: distinct items, their occurrences, and the rows of the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from odmt_fast.features.tokens import Tokens
from odmt_fast.processes import Processes


@dataclass(frozen=True)
class Batch:
    """Index arrays of one batch (DESIGN section 4); built on the CPU by ``kernels.batch_index``.

    B users; user b has n_b items, all but the last are inputs, all but the first are targets.
    N = sum(n_b) occurrences, U distinct items (the columns), M = sum(n_b - 1) rows. A batch that
    was padded counts its dummies, which come last, among them (`odmt_fast.batch.padding`).

    Attributes:
        items: int64 [U], distinct item ids, padding excluded: those of the users, sorted, then
            what else they are scored against (`Candidates`), sorted.
        counts: int32 [U], occurrences of each among the candidates; a column of 0 is seen by those
            alone whose target it is.
        occurrences: int64 [N], column of each occurrence, user-major, oldest first.
        cu_seqlens: int32 [B + 1], cu_seqlens of the rows.
        inputs: int64 [M], column of the row's input item.
        targets: int64 [M], column of the row's target item.
        row_user: int32 [M], user of the row.
        positions: int64 [M], right-aligned step of the row in 0..S-1.
        history_offsets: int32 [B + 1], CSR offsets of `history`.
        history: int32 [H], sorted distinct columns of each user's whole sequence.
        max_seqlen: an upper bound of a user's rows.
        features: tokens of `own_items`, one entry per modality of the model, or where they lie.
        row_scale: fp32 [M], what a row's losses are multiplied with: 0 for a dummy's, one over the
            number of the others for these. None is 1 / M for each.
        dummy_users: how many of the users are dummies.
        noise: int64 [1], decides all that a training step draws (dropout); a loader sets it. None
            where nothing does: the model then draws from torch's default generator.
        weight: float64 [1], what the losses of the batch are multiplied with where several
            processes take a step together; None is 1.
        encoders: the processes that share the encoding of `items`; None encodes them here.
        log_q: fp32 [U], correction of each column (`Candidates`); None = the log of its share in
            the training interactions, which the model knows.
        own_targets: whether a row's target is scored without a correction.
    """

    items: Tensor
    counts: Tensor
    occurrences: Tensor
    cu_seqlens: Tensor
    inputs: Tensor
    targets: Tensor
    row_user: Tensor
    positions: Tensor
    history_offsets: Tensor
    history: Tensor
    max_seqlen: int
    features: tuple[Tokens, ...] = ()
    row_scale: Tensor | None = None
    dummy_users: int = 0
    noise: Tensor | None = None
    weight: Tensor | None = None
    encoders: Processes | None = None
    log_q: Tensor | None = None
    own_targets: bool = False

    @property
    def n_users(self) -> int:
        """B without the dummies."""
        return self.cu_seqlens.shape[0] - 1 - self.dummy_users

    @property
    def n_rows(self) -> int:
        """M."""
        return self.targets.shape[0]

    @property
    def own_items(self) -> Tensor:
        """Those of `items` that are encoded here."""
        if self.encoders is None:
            return self.items
        return self.items[self.encoders.window(len(self.items))]

    def with_features(self, features: tuple[Tokens, ...]) -> Batch:
        """The same batch carrying the tokens of its items."""
        return replace(self, features=features)

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The same batch with every tensor, those of the tokens included, replaced."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                value = function(value)
            elif isinstance(value, tuple):
                value = tuple(tokens.map(function) for tokens in value)
            values[field.name] = value
        return Batch(**values)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        return self.map(lambda x: x.to(device))

    def tensors(self) -> list[Tensor]:
        """Every tensor of the batch, those of the tokens included, in the order of `map`."""
        found: list[Tensor] = []

        def keep(tensor: Tensor) -> Tensor:
            found.append(tensor)
            return tensor

        self.map(keep)
        return found
