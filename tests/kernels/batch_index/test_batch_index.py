"""batch_index: hand-made batches, C++ equal to the law, errors that name user and value."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.batch_index import BatchIndex, batch_index
from odmt_fast.kernels.batch_index.reference import batch_index_reference

Build = Callable[[Tensor, Tensor, int], BatchIndex]
needs_extension = pytest.mark.skipif(
    extension_missing("cpu") is not None, reason=str(extension_missing("cpu"))
)


@pytest.fixture(params=["reference", pytest.param("cpu", marks=needs_extension)])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Build:
    """batch_index on a forced backend."""
    monkeypatch.setenv("ODMT_FAST_BACKEND", request.param)
    return batch_index


def equal(got: BatchIndex, expected: BatchIndex) -> None:
    for name, a, b in zip(BatchIndex._fields, got, expected, strict=True):
        if isinstance(b, int):
            assert a == b, name
        else:
            assert a.dtype == b.dtype and a.is_contiguous(), name
            assert torch.equal(a, b), f"{name}: {a} is not {b}"


def flat(sequences: list[list[int]]) -> tuple[Tensor, Tensor]:
    items = [item for sequence in sequences for item in sequence]
    return torch.tensor(items, dtype=torch.int64), torch.tensor([len(s) for s in sequences])


def test_a_batch_written_out_by_hand(build: Build) -> None:
    index = build(*flat([[7, 3, 7], [9], [3, 2]]), 4)
    assert index.items.tolist() == [2, 3, 7, 9]
    assert index.counts.tolist() == [1, 2, 2, 1]
    assert index.occurrences.tolist() == [2, 1, 2, 3, 1, 0]
    assert index.cu_seqlens.tolist() == [0, 2, 2, 3]
    assert index.inputs.tolist() == [2, 1, 1]
    assert index.targets.tolist() == [1, 2, 0]
    assert index.row_user.tolist() == [0, 0, 2]
    assert index.positions.tolist() == [2, 3, 3]
    assert index.history_offsets.tolist() == [0, 2, 3, 5]
    assert index.history.tolist() == [1, 2, 3, 0, 1]
    assert index.max_seqlen == 2


def test_dtypes_are_those_of_the_batch(build: Build) -> None:
    index = build(*flat([[1, 2], [3]]), 3)
    wide = {"items", "occurrences", "inputs", "targets", "positions"}
    for name, value in index._asdict().items():
        if name != "max_seqlen":
            assert value.dtype == (torch.int64 if name in wide else torch.int32), name


def test_no_users_and_users_without_rows(build: Build) -> None:
    empty = torch.empty(0, dtype=torch.int64)
    assert build(empty, empty, 3).cu_seqlens.tolist() == [0]
    alone = build(*flat([[5], [5], [1]]), 3)
    assert alone.counts.tolist() == [1, 2] and alone.inputs.numel() == 0
    assert alone.history.tolist() == [1, 1, 0] and alone.max_seqlen == 0


SEQUENCES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=8)


@needs_extension
@settings(deadline=None, max_examples=150)
@given(SEQUENCES, st.sampled_from([1, 1000, 2**22 + 1, 2**40]), st.booleans(), st.booleans())
def test_compiled_equals_the_law(
    sequences: list[list[int]], spread: int, narrow_ids: bool, narrow_lengths: bool
) -> None:
    ids, lengths = flat(sequences)
    ids = ids * spread
    if narrow_ids and spread < 2**27:
        ids = ids.int()
    lengths = lengths.int() if narrow_lengths else lengths
    equal(batch_index(ids, lengths, 5), batch_index_reference(ids, lengths, 5))


@needs_extension
@pytest.mark.parametrize(
    "users, steps, catalogue", [(64, 12, 30), (2000, 23, 3_000_000), (3, 300, 40)]
)
def test_compiled_equals_the_law_on_large_batches(users: int, steps: int, catalogue: int) -> None:
    generator = torch.Generator().manual_seed(users)
    lengths = torch.randint(1, steps + 2, (users,), generator=generator)
    ids = torch.randint(1, catalogue + 1, (int(lengths.sum()),), generator=generator)
    equal(batch_index(ids, lengths, steps), batch_index_reference(ids, lengths, steps))


def test_inputs_need_not_be_contiguous(build: Build) -> None:
    ids, lengths = flat([[4, 2, 4], [2, 9]])
    spaced = torch.stack([ids, torch.zeros_like(ids)], dim=1)[:, 0]
    equal(build(spaced, lengths, 4), batch_index_reference(ids, lengths, 4))


@pytest.mark.parametrize(
    "ids, lengths, message",
    [
        ([1, 2, 0, 4], [2, 2], "user 1 has item id 0"),
        ([1, 2, 3, -7], [1, 1, 2], "user 2 has item id -7"),
        ([1, 2], [2, 0], "user 1 has 0 items"),
        ([1] * 9, [2, 7], "user 1 has 7 items; cut sequences to 1 to max_seq_len [+] 1 = 6"),
        ([1, 2, 3], [1, 1], "lengths sum to 2, but there are 3 item_ids"),
    ],
)
def test_errors_name_the_user_and_the_value(
    build: Build, ids: list[int], lengths: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(torch.tensor(ids), torch.tensor(lengths), 5)


def test_errors_of_kind(build: Build) -> None:
    with pytest.raises(ValueError, match="item_ids must be int32 or int64"):
        build(torch.ones(2), torch.tensor([2]), 5)
    with pytest.raises(ValueError, match="lengths must be int32 or int64"):
        build(torch.tensor([1, 2]), torch.tensor([[2]]), 5)


@needs_extension
def test_the_gil_is_released() -> None:
    """Another Python thread goes on counting while one large index is built."""
    ids = torch.randint(1, 2**40, (3_000_000,))
    lengths = torch.full((1_000_000,), 3)
    ticks, stop = 0, threading.Event()

    def count() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    time.sleep(0.01)
    before = ticks
    batch_index(ids, lengths, 3)
    after = ticks
    stop.set()
    thread.join()
    assert after - before >= 3
