"""Tables in memory: the tokens of their source, bit for bit, and rows instead of tokens."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from odmt_fast.batch.capacities import Limits
from odmt_fast.batch.collate import Collator
from odmt_fast.batch.packet import send
from odmt_fast.batch.padding import pad, sizes_of
from odmt_fast.batch.staging import _fetched
from odmt_fast.data.sequences import Sequences
from odmt_fast.features import resident
from odmt_fast.features.resident import ResidentTable, source_bytes
from odmt_fast.features.tokens import PackedTokens, TableRows, TokenTable

CPU = torch.device("cpu")


@pytest.fixture(params=[torch.float16, torch.bfloat16, torch.float32], ids=str)
def source(request: pytest.FixtureRequest) -> TokenTable:
    """Nine items of one to three tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 4, (10, 1), generator=generator)
    tokens = torch.randn(10, 3, 5, generator=generator).to(request.param)
    return TokenTable.from_padded(tokens, torch.arange(3) < lengths)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_a_table_holds_its_source(
    source: TokenTable, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident, "_CHUNK_ITEMS", chunk)
    table = ResidentTable.of(source, CPU)
    assert table.table.dtype == source.dtype
    assert torch.equal(table.table[:-1], source.values) and not table.table[-1].any()
    assert torch.equal(table.offsets, source.offsets)
    assert source_bytes(source) == source.values.nbytes
    items = torch.tensor([7, 2, 2, 9, 1])
    rows, expected = table.gather(items), source.gather(items)
    assert isinstance(rows, TableRows) and rows.table is table.table
    assert (rows.count, rows.dim) == (expected.count, expected.dim)
    assert_equal(rows.gathered(), expected)
    assert torch.equal(table.counts(items), source.counts(items))


def test_a_padded_batch_reads_zeros_for_its_dummies(source: TokenTable) -> None:
    batches = [
        Collator(Sequences.from_lists([[3, 4, 7], [9, 8]]), 4, (tokens,))(np.arange(2))
        for tokens in (source, ResidentTable.of(source, CPU))
    ]
    limits, size = Limits(4, (3,)), sizes_of(batches[0])
    assert size == sizes_of(batches[1])
    larger = size._replace(users=4, rows=7, items=7, history=8, tokens=(size.tokens[0] + 5,))
    mapped, rows = (pad(batch, larger, limits).features[0] for batch in batches)
    assert_equal(rows.gathered(), mapped.gathered())


def test_only_rows_travel_to_the_device(source: TokenTable) -> None:
    collate = Collator(Sequences.from_lists([[3, 4, 7]]), 4, (ResidentTable.of(source, CPU),))
    batch = collate(np.arange(1))
    sent, block = send(batch, CPU)
    (tokens,), (before,) = sent.features, batch.features
    assert isinstance(tokens, TableRows) and isinstance(before, TableRows)
    assert tokens.table is before.table
    assert tokens.rows.untyped_storage().data_ptr() == block.untyped_storage().data_ptr()
    assert_equal(tokens.gathered(), before.gathered())


def test_tokens_in_host_memory_are_fetched_with_the_copy(source: TokenTable) -> None:
    tables = (ResidentTable.of(source, CPU), ResidentTable.of(source, torch.device("meta")), source)
    batch = Collator(Sequences.from_lists([[3, 4, 7]]), 4, tables)(np.arange(1))
    there, fetched = _fetched(batch)
    in_host, on_device, carried = there.features
    assert isinstance(in_host, PackedTokens) and len(fetched) == 1
    assert fetched[0] is in_host.values
    assert_equal(in_host, batch.features[2].gathered())
    assert on_device is batch.features[1] and carried is batch.features[2]


def test_pages_are_locked_for_the_life_of_the_table(
    source: TokenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    runtime = SimpleNamespace(
        cudaHostRegister=lambda address, size, flags: calls.append(("lock", address)) or 0,
        cudaHostUnregister=lambda address: calls.append(("unlock", address)),
    )
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    table = ResidentTable.of(source, torch.device("cuda"), pinned=True)
    address = table.table.data_ptr()
    assert table.table.device == CPU and calls == [("lock", address)]
    rows = table.gather(torch.tensor([1]))
    del table
    assert calls == [("lock", address)]
    del rows
    assert calls == [("lock", address), ("unlock", address)]


def test_pages_that_cannot_be_locked_are_told(
    source: TokenTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = SimpleNamespace(cudaHostRegister=lambda *_: 2)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    with pytest.raises(RuntimeError, match=r"CUDA error 2\); train with --set features.residency="):
        ResidentTable.of(source, torch.device("cuda"), pinned=True)


def assert_equal(got: PackedTokens, expected: PackedTokens) -> None:
    assert torch.equal(got.values, expected.values)
    assert torch.equal(got.lengths, expected.lengths)
    assert got.max_length == expected.max_length
