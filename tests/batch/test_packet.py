"""A batch in one block: the same values, each array aligned, batches of one shape alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.packet import block_of, moved, send
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


def test_a_batch_is_carried_to_another_block_in_one_copy() -> None:
    (one, first), (other, second) = send(batch_of(3), CPU), send(batch_of(2), CPU)
    assert block_of(one).data_ptr() == first.data_ptr() and torch.equal(block_of(one), first)
    room = torch.empty(first.nbytes + 512, dtype=torch.uint8)
    there = moved(one, room[: first.nbytes])
    for sent, block in ((one, first), (other, second)):
        room[: block.nbytes].copy_(block)
        assert all(torch.equal(x, y) for x, y in zip(there.tensors(), sent.tensors(), strict=True))
    for scattered in (batch_of(3), replace(one, noise=torch.tensor([1])), there):
        with pytest.raises(ValueError, match=r"not lie in one block; pass it through packet.send"):
            block_of(scattered)


def place(array: Tensor, block: Tensor) -> int:
    return array.data_ptr() - block.data_ptr()
