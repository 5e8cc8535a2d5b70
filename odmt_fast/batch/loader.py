"""Builds the batches of an epoch, ahead of the training step when there are worker threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import islice
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.capacities import Capacities
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.packet import send
from odmt_fast.batch.padding import padded
from odmt_fast.batch.sampler import UserSampler
from odmt_fast.batch.sharing import own_batch
from odmt_fast.batch.staging import DeviceStage, Staged
from odmt_fast.config import Negatives
from odmt_fast.processes import Processes
from odmt_fast.randomness import stream
from odmt_fast.threads import one_core_pool

# Batches in the making or waiting, per worker: one is ready while the next is built.
_AHEAD = 2


class BatchLoader:
    """The batches of any epoch from any step on, in order, on `device`.

    A batch, its draws and noise included, depends on (seed, epoch, step) alone, so the number of
    workers changes nothing but the time. Without workers a batch is built and copied when it is
    asked for, with no thread, queue or stream involved. With workers, threads (not processes:
    gathers and copies release the interpreter lock, and tokens need not be sent between processes)
    build and copy up to two batches each ahead of the consumer. An error in a worker is raised
    where its batch is asked for.

    Of several processes each gets its part of the same step (`own_batch`) and noise of its own. The
    order of the users is that of one process with a batch as large as theirs together.

    Use it as a context manager, or call `close`, to end the threads.

    Args:
        collate: builds a batch from user indices, epoch and step; must be callable from several
            threads at once.
        batch_size: users of a batch, of each process.
        seed: of the order of the users and of the noise.
        device: where the batches are wanted.
        workers: threads beside the caller's.
        capacities: what batches are padded to; None leaves them as they are.
        processes: that take the steps together.
        negatives: see `own_batch`.
        kd_weight: epoch -> ``Batch.kd_weight``; what of a step depends on the epoch is data.
    """

    def __init__(
        self,
        collate: Collator,
        *,
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        workers: int = 0,
        processes: Processes | None = None,
        negatives: Negatives = "rank",
        capacities: Capacities | None = None,
        kd_weight: Callable[[int], float | None] | None = None,
    ) -> None:
        if workers < 0:
            raise ValueError(f"workers must be 0 or more, got {workers}")
        self.collate = collate
        self.processes = processes or Processes()
        self.negatives: Negatives = negatives
        self.sampler = UserSampler(collate.users, batch_size * self.processes.count, seed)
        self.capacities, self._kd_weight = capacities, kd_weight
        self.device = torch.device(device)
        self.workers = workers
        self._pool = one_core_pool(workers, "batch") if workers else None
        self._stage = DeviceStage(self.device) if workers else None

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.sampler.steps

    def epoch(self, epoch: int, start: int = 0) -> Generator[Batch]:
        """Batches `start`, `start` + 1, ... of `epoch`."""
        if not 0 <= start <= self.steps:
            raise ValueError(f"start={start} is not a step of an epoch of {self.steps} steps")
        order = self.sampler.order(epoch)
        rank = self.processes.rank
        what = f"dropout/{rank}" if rank else "dropout"
        weight = self._kd_weight and self._kd_weight(epoch)
        kd_weight = None if weight is None else torch.tensor([weight], dtype=torch.float64)

        def collated(step: int) -> Batch:
            noise = torch.tensor([stream(self.sampler.seed, what, epoch, step)])
            batch = self._batch(self.sampler.batch(order, step), epoch, step)
            if self.capacities is not None:
                batch = padded(batch, self.capacities)
            return replace(batch, noise=noise, kd_weight=kd_weight)

        if self._pool is None or self._stage is None:
            for step in range(start, self.steps):
                batch = collated(step)
                yield batch if self.device.type == "cpu" else send(batch, self.device)[0]
            return

        pool, stage = self._pool, self._stage

        def build(step: int) -> Staged:
            return stage.send(collated(step))

        steps = iter(range(start, self.steps))
        waiting = deque(pool.submit(build, step) for step in islice(steps, _AHEAD * self.workers))
        try:
            while waiting:
                staged = waiting.popleft().result()
                waiting.extend(pool.submit(build, step) for step in islice(steps, 1))
                yield stage.receive(staged)
        finally:
            for future in waiting:
                future.cancel()

    def _batch(self, users: NDArray[np.int64], epoch: int, step: int) -> Batch:
        if self.processes.count == 1:
            return self.collate(users, epoch, step)
        return own_batch(self.collate, users, epoch, step, self.processes, self.negatives)

    def close(self) -> None:
        """Ends the worker threads; the loader cannot be used afterwards."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> BatchLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
