"""A batch in one block: the same values, each array aligned, batches of one shape alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.packet import blocks_of, layout_of, moved, send
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable

CPU = torch.device("cpu")


def batch_of(first: int) -> Batch:
    features = torch.arange(10 * 2 * 3.0).view(10, 2, 3).half()
    sources = (TokenTable.from_padded(features),)
    collate = Collator(Sequences.from_lists([[first, 4, 7], [9, 8]]), 4, sources)
    batch = collate(np.arange(2))
    scale = torch.full((batch.n_rows,), 1 / batch.n_rows)
    return replace(batch, row_scale=scale, noise=torch.tensor([2**60 + first]))


def test_every_array_arrives_in_the_block() -> None:
    batch = batch_of(3)
    sent, block = send(batch, CPU)
    assert sent.max_seqlen == batch.max_seqlen and sent.n_users == 2
    assert sent.features[0].max_length == 2
    before, after = batch.tensors(), sent.tensors()
    assert len(after) == 10 + 2 + 2
    for one, other in zip(before, after, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
        assert place(other, block) % 256 == 0
        assert 0 <= place(other, block) <= block.nbytes - other.nbytes


def test_batches_of_one_shape_lie_alike() -> None:
    (one, first), (other, second) = send(batch_of(3), CPU), send(batch_of(2), CPU)
    assert first.nbytes == second.nbytes
    assert [place(x, first) for x in one.tensors()] == [place(x, second) for x in other.tensors()]


def test_other_devices_get_it_too() -> None:
    sent, block = send(batch_of(3), torch.device("meta"))
    assert block.is_meta and all(x.is_meta for x in sent.tensors())
    assert sent.features[0].values.shape == (10, 3)


def test_a_batch_is_carried_to_other_blocks_by_one_copy_each() -> None:
    (one, first), (other, _) = send(batch_of(3), CPU), send(batch_of(2), CPU)
    assert len(blocks_of(one)) == 1 and torch.equal(blocks_of(one)[0], first)
    # Tokens may come by another way and lie elsewhere.
    apart = [batch.with_features(batch_of(3).features) for batch in (one, other)]
    assert len(blocks_of(apart[0])) == 3
    for was, now in ((one, other), apart):
        assert layout_of(was) == layout_of(now)
        rooms = [torch.empty(block.nbytes + 512, dtype=torch.uint8) for block in blocks_of(was)]
        there = moved(was, rooms)
        for batch in (was, now):
            for room, block in zip(rooms, blocks_of(batch), strict=True):
                room[: block.nbytes].copy_(block)
            for x, y in zip(there.tensors(), batch.tensors(), strict=True):
                assert x.dtype == y.dtype and torch.equal(x, y)
    assert len({layout_of(batch) for batch in (one, apart[0], batch_of(3))}) == 3


def place(array: Tensor, block: Tensor) -> int:
    return array.data_ptr() - block.data_ptr()
