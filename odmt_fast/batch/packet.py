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
    starts = _starts(arrays)
    host = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=pinned)
    for array, view in zip(arrays, _views(host, arrays, starts), strict=True):
        view.copy_(array)
    block = host.to(device, non_blocking=pinned)
    return _in_block(batch, block, arrays, starts), block


def block_of(batch: Batch) -> Tensor:
    """The block, uint8 [bytes], of a batch that `send` returned.

    Raises:
        ValueError: the batch does not lie in one block.
    """
    arrays = batch.tensors()
    starts, storage = _starts(arrays), arrays[0].untyped_storage()
    places = [array.data_ptr() - storage.data_ptr() for array in arrays]
    if places != starts[:-1] or storage.nbytes() != starts[-1]:
        raise ValueError("the batch does not lie in one block; pass it through packet.send")
    return torch.empty(0, dtype=torch.uint8, device=arrays[0].device).set_(storage)


def moved(batch: Batch, block: Tensor) -> Batch:
    """A batch that `send` returned as it lies in another block, at least as large as its own."""
    arrays = batch.tensors()
    return _in_block(batch, block, arrays, _starts(arrays))


def _starts(arrays: list[Tensor]) -> list[int]:
    """Where every array begins, and the size of all."""
    sizes = [-(-array.nbytes // _ALIGNED) * _ALIGNED for array in arrays]
    return list(accumulate(sizes, initial=0))


def _in_block(batch: Batch, block: Tensor, arrays: list[Tensor], starts: list[int]) -> Batch:
    views = iter(_views(block, arrays, starts))
    return batch.map(lambda _: next(views))


def _views(block: Tensor, arrays: list[Tensor], starts: list[int]) -> list[Tensor]:
    return [
        block[start : start + array.nbytes].view(array.dtype).view(array.shape)
        for array, start in zip(arrays, starts, strict=False)
    ]
