"""Pads a batch to its capacities by dummy users and items, which change nothing.

They come after the real ones, so that no index and no random number of these moves. A dummy item is
item 0, the padding, in no sequence (count 0) and with tokens that are zero; a dummy user's rows
read and predict the batch's first item at a weight of 0. Nothing is masked by them: every operator
computes them as it does the others, to something finite, and their gradients are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.capacities import Capacities, Limits, Sizes


def sizes_of(batch: Batch) -> Sizes:
    """What a batch has of everything."""
    return Sizes(
        users=batch.cu_seqlens.shape[0] - 1,
        rows=batch.targets.shape[0],
        items=batch.items.shape[0],
        history=batch.history.shape[0],
        tokens=tuple(tokens.count for tokens in batch.features),
    )


def padded(batch: Batch, capacities: Capacities) -> Batch:
    """The batch, padded to the cheapest capacities that hold it; as it is where none do."""
    capacity = capacities.of(sizes_of(batch))
    return batch if capacity is None else pad(batch, capacity, capacities.limits)


def pad(batch: Batch, capacity: Sizes, limits: Limits) -> Batch:
    """A batch on the CPU, with dummies that fill it up to `capacity`.

    Args:
        batch: without dummies.
        capacity: one that `limits` allow for it.
        limits: of the dummies.

    Raises:
        ValueError: no whole dummies fill the capacity.
    """
    sizes = sizes_of(batch)
    if not limits.allow(sizes, capacity):
        raise ValueError(f"a batch of {sizes} cannot be padded to {capacity}; leave it as it is")
    users, items = capacity.users - sizes.users, capacity.items - sizes.items
    rows = _shares(capacity.rows - sizes.rows, users)
    history = _shares(capacity.history - sizes.history, users)
    row_user = [sizes.users + user for user, own in enumerate(rows) for _ in range(own)]
    positions = [limits.steps - own + step for own in rows for step in range(own)]
    scale = torch.zeros(capacity.rows)
    scale[: sizes.rows] = 1 / sizes.rows
    return replace(
        batch,
        items=_extended(batch.items, [0] * items),
        counts=_extended(batch.counts, [0] * items),
        occurrences=_extended(batch.occurrences, [0] * (sum(rows) + users)),
        cu_seqlens=_extended(batch.cu_seqlens, _ends(sizes.rows, rows)),
        inputs=_extended(batch.inputs, [0] * sum(rows)),
        targets=_extended(batch.targets, [0] * sum(rows)),
        row_user=_extended(batch.row_user, row_user),
        positions=_extended(batch.positions, positions),
        history_offsets=_extended(batch.history_offsets, _ends(sizes.history, history)),
        history=_extended(batch.history, [column for own in history for column in range(own)]),
        max_seqlen=limits.steps,
        row_scale=scale,
        log_q=None if batch.log_q is None else _extended(batch.log_q, [0.0] * items),
        dummy_users=users,
        features=tuple(
            tokens.padded(_shares(whole - own, items))
            for tokens, own, whole in zip(
                batch.features, sizes.tokens, capacity.tokens, strict=True
            )
        ),
    )


def _shares(total: int, parts: int) -> list[int]:
    """`total` in `parts` that differ by 1 at most."""
    share, more = divmod(total, max(1, parts))
    return [share + (part < more) for part in range(parts)]


def _ends(start: int, lengths: list[int]) -> list[int]:
    return list(accumulate(lengths, initial=start))[1:]


def _extended(array: Tensor, values: Sequence[float]) -> Tensor:
    return torch.cat([array, torch.tensor(values, dtype=array.dtype)])
