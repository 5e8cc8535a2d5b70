"""Several processes training one model: averaged gradients and losses, agreed decisions.

Every process holds the whole model and takes its part of each step's users; `Batch.weight` makes
the mean of the processes that of all rows. Torch's DistributedDataParallel averages the gradients
while the backward pass runs. Files, lines and validation are the first process's.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from odmt_fast.processes import Processes
from odmt_fast.training.schedule import StopRequest


def averaging(model: nn.Module, processes: Processes) -> nn.Module:
    """The model to call in a training step: its gradients become the means over the processes.

    Begins with the first process's weights. Every process must use the same parameters, in every
    step the same; those used by none keep no gradient.
    """
    if processes.count == 1:
        return model
    if any(isinstance(module, nn.Embedding) and module.sparse for module in model.modules()):
        raise ValueError(
            f"model.id_table=sparse is trained by one process, and there are {processes.count}; "
            "use model.id_table=dense, or start without torchrun"
        )
    # The buffers are constants. Torch 2.13 renamed what says so, and warns of the old name.
    known = signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    constants: dict[str, Any] = {name: False}
    return DistributedDataParallel(
        model, gradient_as_bucket_view=True, static_graph=True, **constants
    )


def average(values: Tensor, processes: Processes) -> None:
    """Replaces `values` by their means over the processes, without waiting for a GPU."""
    if processes.count > 1:
        dist.all_reduce(values)
        values /= processes.count


def agree(stop: StopRequest, processes: Processes, due: bool = False) -> tuple[bool, bool]:
    """Whether all stop now, as any was asked to, and whether a checkpoint is due in any.

    What `stop` says by itself is not yet known to the others.
    """
    number, due_somewhere = processes.largest(stop.number, int(due))
    if number:
        stop.request(number)
    return number > 0, due_somewhere > 0
