"""The training batch: distinct items, their occurrences, and the rows of the loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from odmt_fast.features.tokens import PackedTokens


@dataclass(frozen=True)
class Batch:
    """Index arrays of one batch (DESIGN section 4); built on the CPU by ``kernels.batch_index``.

    B users; user b has n_b items, all but the last are inputs, all but the first are targets.
    N = sum(n_b) occurrences, U distinct items (the columns), M = sum(n_b - 1) rows.

    Attributes:
        items: int64 [U], distinct item ids, padding excluded: those of the users, sorted, then
            what else they are scored against (`Candidates`), sorted.
        counts: int32 [U], occurrences of each among the candidates; a column of 0 is seen by those
            alone whose target it is.
        occurrences: int64 [N], column of each occurrence, user-major, oldest first.
        offsets: int64 [B + 1], cu_seqlens of `occurrences`.
        cu_seqlens: int32 [B + 1], cu_seqlens of the rows.
        inputs: int64 [M], column of the row's input item.
        targets: int64 [M], column of the row's target item.
        row_user: int32 [M], user of the row.
        positions: int64 [M], right-aligned step of the row in 0..S-1.
        history_offsets: int32 [B + 1], CSR offsets of `history`.
        history: int32 [H], sorted distinct columns of each user's whole sequence.
        max_seqlen: the most rows a user has.
        features: tokens of `items`, one entry per modality of the model.
        row_scale: fp32 [M], what a row's losses are multiplied with; None is 1 / M for each.
        noise: int64 [1], decides all that a training step draws (dropout); a loader sets it. None
            where nothing does: the model then draws from torch's default generator.
        log_q: fp32 [U], correction of each column (`Candidates`); None = the log of its share in
            the training interactions, which the model knows.
        own_targets: whether a row's target is scored without a correction.
    """

    items: Tensor
    counts: Tensor
    occurrences: Tensor
    offsets: Tensor
    cu_seqlens: Tensor
    inputs: Tensor
    targets: Tensor
    row_user: Tensor
    positions: Tensor
    history_offsets: Tensor
    history: Tensor
    max_seqlen: int
    features: tuple[PackedTokens, ...] = ()
    row_scale: Tensor | None = None
    noise: Tensor | None = None
    log_q: Tensor | None = None
    own_targets: bool = False

    @property
    def n_users(self) -> int:
        """B."""
        return self.offsets.shape[0] - 1

    @property
    def n_rows(self) -> int:
        """M."""
        return self.targets.shape[0]

    def with_features(self, features: tuple[PackedTokens, ...]) -> Batch:
        """The same batch carrying the tokens of its items."""
        return replace(self, features=features)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same batch on `device`."""
        return self._map(lambda x: x.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory."""
        return self._map(lambda x: x.pin_memory())

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of the batch, those of the tokens included."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                yield value
        for tokens in self.features:
            yield tokens.values
            yield tokens.lengths

    def _map(self, function: Any) -> Batch:
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                value = function(value)
            elif isinstance(value, tuple):
                value = tuple(function(tokens) for tokens in value)
            values[field.name] = value
        return Batch(**values)
