"""The processes that work on one thing together: those torchrun started, or this one alone.

What they tell each other here is small and lies in host memory, so no process waits for its GPU.
Torch is imported where it is needed: the command line asks for the launcher's word alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch

Value = TypeVar("Value")

# A process may wait while the first one validates. One that died is noticed at once: its
# connections break.
_PATIENCE = timedelta(hours=12)

# Groups that were left, until the process ends. Freeing one waits for gloo's threads while it holds
# the interpreter lock, which these may want for the tensors of the last call: a deadlock.
_left: list[object] = []


@dataclass(frozen=True)
class Processes:
    """This process among others, all of which call the collective methods in the same order.

    Attributes:
        rank: of this process, 0..count - 1.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Processes:
        """Those of torch.distributed where it was initialised, else this one alone."""
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and talks to people."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """What of 0..total - 1 is this process's: consecutive parts, as equal as can be."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def window(self, total: int, rank: int | None = None) -> slice:
        """Like `share`, but as long for every process: where it does not divide, ends overlap.

        Process r's own are those from ``r * length`` on; what lies before belongs to others.

        Args:
            total: at least 1.
            rank: of the process; None is this one.
        """
        length = -(-total // self.count)
        start = min((self.rank if rank is None else rank) * length, total - length)
        return slice(start, start + length)

    def largest(self, *values: int) -> list[int]:
        """The largest of each value over all processes; waits for all of them."""
        if self.count == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        agreed = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
        return agreed.tolist()

    def wait(self) -> None:
        """Until all processes are here."""
        self.largest(0)

    def from_first(self, value: Value) -> Value:
        """The first process's `value`, in every process; it must be picklable."""
        if self.count == 1:
            return value
        import torch
        import torch.distributed as dist

        box = [value if self.first else None]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]


def launched() -> Processes:
    """What the launcher's environment says, before anybody was met."""
    return Processes(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def local_device() -> int:
    """The number of this process on its machine, and so of its GPU; 0 without a launcher."""
    return int(os.environ.get("LOCAL_RANK", 0))


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Meets the processes the launcher started, if it did, and parts from them in the end.

    Args:
        device: where this process computes; NCCL connects GPUs, gloo all else.
    """
    if launched().count == 1 or Processes.current().count > 1:
        yield Processes.current()
        return
    import torch
    import torch.distributed as dist

    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("cpu:gloo,cuda:nccl", timeout=_PATIENCE, device_id=device)
    else:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Processes.current()
    finally:
        # After an error the others may wait elsewhere: the launcher ends them.
        if not isinstance(sys.exception(), Exception):
            _left.append(dist.group.WORLD)
            dist.destroy_process_group()
