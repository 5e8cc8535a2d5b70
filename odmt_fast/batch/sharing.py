"""The batch of one process out of a step that several processes take together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.collate import Collator
from odmt_fast.config import Negatives
from odmt_fast.processes import Processes


def own_batch(
    collate: Collator,
    users: NDArray[np.int64],
    epoch: int,
    step: int,
    processes: Processes,
    negatives: Negatives,
) -> Batch:
    """What this process computes of the step of `users`.

    Its ``weight`` is its share of the step's rows times the number of processes, so that the mean
    of the processes' losses, and of their gradients, is that of all rows. Where there are fewer
    users than processes, some compute a row of another for nothing, with a weight of 0: all take
    the same way through the model, and wait for each other at the same places.

    Args:
        collate: makes batches.
        users: int64 [B], of the whole step; every process gives the same.
        epoch: from 1.
        step: of the epoch; the two decide what is drawn beside the users, in all processes alike.
        processes: share the users in consecutive parts.
        negatives: "rank": a row is scored against the items of its process's users, as officially;
            "global": against those of the whole step. Of these each process encodes a share, and
            the model gathers the others'.
    """
    own = processes.share(len(users))
    rows = collate.rows(users[own])
    if own.start == own.stop:
        own = slice(0, 1)
    if negatives == "rank":
        batch = collate(users[own], epoch, step)
    else:
        whole = replace(collate.index(users, epoch, step), encoders=processes)
        batch = collate.with_tokens(_of_users(whole, own.start, own.stop))
    weight = processes.count * rows / collate.rows(users)
    return replace(batch, weight=torch.tensor([weight], dtype=torch.float64))


def _of_users(batch: Batch, first: int, last: int) -> Batch:
    """The rows of the users first..last - 1 against all columns of `batch`."""
    users = slice(first, last + 1)
    rows, history = (
        slice(int(offsets[first]), int(offsets[last]))
        for offsets in (batch.cu_seqlens, batch.history_offsets)
    )
    return replace(
        batch,
        # Of each user one more than rows.
        occurrences=batch.occurrences[rows.start + first : rows.stop + last],
        cu_seqlens=batch.cu_seqlens[users] - batch.cu_seqlens[first],
        inputs=batch.inputs[rows],
        targets=batch.targets[rows],
        row_user=batch.row_user[rows] - first,
        positions=batch.positions[rows],
        history_offsets=batch.history_offsets[users] - batch.history_offsets[first],
        history=batch.history[history],
    )
