"""All arrays of a batch in one block of memory: one copy to a device instead of one each.

The offsets follow from the shapes, so that batches of one capacity lie alike.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def blocks_of(batch: Batch) -> list[Tensor]:
    """The memory that the arrays of a batch lie in, uint8 [bytes]; of one that was sent, its block.

    A batch with arrays elsewhere has further blocks, in the order of `Batch.tensors`.
    """
    found: dict[int, Tensor] = {}
    for place, x in zip(_places(batch), batch.tensors(), strict=True):
        found.setdefault(place, x)
    return [
        torch.empty(0, dtype=torch.uint8, device=x.device).set_(x.untyped_storage())
        for x in found.values()
    ]


def layout_of(batch: Batch) -> tuple[object, ...]:
    """How the arrays of a batch lie in its blocks; alike where one copy a block carries it over."""
    places = _places(batch)
    return (
        *(len(block) for block in blocks_of(batch)),
        *(
            (place, x.dtype, x.storage_offset(), x.shape, x.stride())
            for place, x in zip(places, batch.tensors(), strict=True)
        ),
    )


def moved(batch: Batch, blocks: Sequence[Tensor]) -> Batch:
    """The batch as it lies in other blocks, each at least as large as its own."""
    places = iter(_places(batch))

    def there(x: Tensor) -> Tensor:
        storage = blocks[next(places)].untyped_storage()
        return x.new_empty(0).set_(storage, x.storage_offset(), x.shape, x.stride())

    return batch.map(there)


def _places(batch: Batch) -> list[int]:
    """The block of every array."""
    order: dict[int, int] = {}
    addresses = [x.untyped_storage().data_ptr() for x in batch.tensors()]
    return [order.setdefault(address, len(order)) for address in addresses]


def _views(block: Tensor, arrays: list[Tensor], starts: list[int]) -> list[Tensor]:
    return [
        block[start : start + array.nbytes].view(array.dtype).view(array.shape)
        for array, start in zip(arrays, starts, strict=False)
    ]
