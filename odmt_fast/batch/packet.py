"""All arrays of a batch in one block of memory: one copy to a device instead of one each.

The offsets follow from the shapes, so that batches of one capacity lie alike.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch

_ALIGNED = 256
"""Bytes; what a device's own allocator aligns to."""


def send(batch: Batch, device: torch.device, *, pinned: bool = False) -> tuple[Batch, Tensor]:
    """Copies a batch to `device`, which is not waited for where the block is page-locked.

    Args:
        batch: on the CPU.
        device: where it is wanted.
        pinned: copy by way of page-locked memory; needs CUDA.

    Returns:
        (the batch as views of the block on the device, that block: uint8 [bytes]).
    """
    arrays = [array.contiguous() for array in batch.tensors()]
    sizes = [-(-array.nbytes // _ALIGNED) * _ALIGNED for array in arrays]
    starts = list(accumulate(sizes, initial=0))
    host = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=pinned)
    for array, view in zip(arrays, _views(host, arrays, starts), strict=True):
        view.copy_(array)
    block = host.to(device, non_blocking=pinned)
    views = iter(_views(block, arrays, starts))
    return batch.map(lambda _: next(views)), block


def _views(block: Tensor, arrays: list[Tensor], starts: list[int]) -> list[Tensor]:
    return [
        block[start : start + array.nbytes].view(array.dtype).view(array.shape)
        for array, start in zip(arrays, starts, strict=False)
    ]
