"""Item embeddings that several processes encoded, each a share, as if one had encoded all."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from odmt_fast.processes import Processes


def gathered(own: Tensor, total: int, processes: Processes) -> Tensor:
    """Embeddings [K, U, d] of all items, the same in every process; waits for all of them.

    The backward sums the gradients of all processes, in fp32 or wider: every process gets those of
    the items it encoded.

    Args:
        own: [K, length, d], of the items of this process's `Processes.window`.
        total: U.
        processes: that encode.
    """
    return _Gathered.apply(own, total, processes)  # type: ignore[no-untyped-call]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, total: int, processes: Processes) -> Tensor:
        ctx.processes, ctx.dtype = processes, own.dtype
        parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in _all(ctx)]
        dist.all_gather(parts, own.contiguous())
        kept = [
            part[:, rank * part.shape[1] - processes.window(total, rank).start :]
            for rank, part in zip(_all(ctx), parts, strict=True)
        ]
        return torch.cat(kept, dim=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        processes, total = ctx.processes, gradient.shape[1]
        summed = gradient.to(torch.promote_types(ctx.dtype, torch.float32), copy=True).contiguous()
        dist.all_reduce(summed)
        window = processes.window(total)
        own = summed[:, window].to(ctx.dtype, copy=True)
        # What another process's window holds too is that one's.
        own[:, : processes.rank * own.shape[1] - window.start] = 0
        return own, None, None


def _all(ctx: Any) -> range:
    return range(ctx.processes.count)
