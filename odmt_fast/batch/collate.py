"""Turns a choice of users into a `Batch`: their last items, the index arrays, the tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.candidates import Candidates
from odmt_fast.batch.capacities import Limits, Sizes
from odmt_fast.batch.sampler import UserSampler
from odmt_fast.features.tokens import BatchSource
from odmt_fast.kernels.batch_index import batch_index

if TYPE_CHECKING:
    from odmt_fast.data.sequences import Sequences


class Collator:
    """Builds training batches from the last `max_seq_len` + 1 items of each user.

    Users with fewer than two items have no row of the loss and are left out. Holds no state that
    a call changes, so threads may share it.

    Attributes:
        users: int64 [n], the users that can be trained on.
        skipped: how many users were left out.
        limits: of what a batch can hold, for its padding.

    Args:
        sequences: items of each user, oldest first (``Split.train``).
        max_seq_len: S, input steps of a user.
        sources: where the tokens of the batch's items are gathered from, one per modality in the
            model's order (`SequentialModel.sources`).
        candidates: the columns of a batch; None = its own items, as officially.
    """

    def __init__(
        self,
        sequences: Sequences,
        max_seq_len: int,
        sources: Sequence[BatchSource] = (),
        candidates: Candidates | None = None,
    ) -> None:
        self._items = sequences.items
        self._ends = sequences.offsets[1:]
        self._lengths = np.minimum(np.diff(sequences.offsets), max_seq_len + 1)
        self._max_seq_len = max_seq_len
        self._sources = tuple(sources)
        self._candidates = candidates
        self.limits = Limits(max_seq_len, tuple(source.max_length for source in sources))
        self.users: NDArray[np.int64] = np.flatnonzero(self._lengths >= 2)
        self.skipped = len(self._lengths) - len(self.users)

    def __call__(self, users: NDArray[np.int64], epoch: int = 1, step: int = 0) -> Batch:
        """The batch of `users` (int64 [B], indices into the sequences), in that order.

        Epoch and step decide what is drawn beside them.
        """
        return self.with_tokens(self.index(users, epoch, step))

    def index(self, users: NDArray[np.int64], epoch: int = 1, step: int = 0) -> Batch:
        """The same batch without tokens."""
        return Batch(**self._arrays(users, epoch, step))

    def with_tokens(self, batch: Batch) -> Batch:
        """The same batch carrying the tokens of the items it encodes."""
        return batch.with_features(
            tuple(source.gather(batch.own_items) for source in self._sources)
        )

    def rows(self, users: NDArray[np.int64]) -> int:
        """M of the batch of `users`."""
        return int(self._lengths[users].sum()) - len(users)

    def sizes(self, users: NDArray[np.int64], epoch: int = 1, step: int = 0) -> Sizes:
        """Those of the batch of `users`; no token is read."""
        values = self._arrays(users, epoch, step)
        items = values["items"]
        return Sizes(
            users=len(users),
            rows=len(values["targets"]),
            items=len(items),
            history=len(values["history"]),
            tokens=tuple(int(source.counts(items).sum()) for source in self._sources),
        )

    def first_sizes(self, sampler: UserSampler, most: int) -> list[Sizes]:
        """Those of a run's first `most` full batches, of as many epochs as it takes."""
        full, sizes = len(sampler.users) // sampler.batch_size, list[Sizes]()
        for epoch in range(1, 1 + -(-most // full) if full else 1):
            order = sampler.order(epoch)
            steps = range(min(full, most - len(sizes)))
            sizes += [self.sizes(sampler.batch(order, step), epoch, step) for step in steps]
        return sizes

    def _arrays(self, users: NDArray[np.int64], epoch: int, step: int) -> dict[str, Any]:
        """All that a batch holds beside its tokens, by name."""
        items, lengths = self._gather(users)
        index = batch_index(torch.from_numpy(items), torch.from_numpy(lengths), self._max_seq_len)
        values = index._asdict()
        if self._candidates is not None:
            values |= self._candidates(index, epoch, step)._asdict()
        return values

    def _gather(self, users: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Items of the users one after the other (int32 [N]) and how many each has (int64 [B])."""
        lengths = self._lengths[users]
        packed_ends = np.cumsum(lengths)
        # Item p of the result lies at p + (the user's end in the store - its end in the result).
        shift = np.repeat(self._ends[users] - packed_ends, lengths)
        return self._items[np.arange(len(shift)) + shift], lengths
