from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odmt_fast.data import Sequences

LISTS = st.lists(st.lists(st.integers(1, 9), max_size=7), max_size=6)
BOUND = st.none() | st.integers(-9, 9)


@given(users=LISTS, start=BOUND, stop=BOUND)
def test_cut_is_python_slicing(users: list[list[int]], start: int | None, stop: int | None) -> None:
    cut = Sequences.from_lists(users).cut(start, stop)
    assert [cut[u].tolist() for u in range(len(cut))] == [u[start:stop] for u in users]


@given(users=LISTS, n=st.integers(0, 9))
def test_tail_keeps_the_last(users: list[list[int]], n: int) -> None:
    tail = Sequences.from_lists(users).tail(n)
    assert [list(tail[u]) for u in range(len(tail))] == [u[-n:] if n else [] for u in users]


def test_users_are_read_back() -> None:
    sequences = Sequences.from_lists([[3, 1], [], [2]])
    assert len(sequences) == 3
    assert sequences.lengths.tolist() == [2, 0, 1]
    assert [items.tolist() for items in sequences] == [[3, 1], [], [2]]
    assert sequences[-1].tolist() == [2]
    assert sequences.user_of_item().tolist() == [0, 0, 2]
    assert sequences.counts(4).tolist() == [0, 1, 1, 1, 0]
    assert sequences.select(np.array([True, False, True]))[1].tolist() == [2]
    assert (sequences.items.dtype, sequences.offsets.dtype) == (np.int32, np.int64)


def test_arrays_refuse_writes_and_leave_the_callers_array_alone() -> None:
    items = np.array([1, 2], np.int32)
    sequences = Sequences(items, np.array([0, 2]))
    with pytest.raises(ValueError, match="read-only"):
        sequences.items[0] = 5
    items[0] = 2
    with pytest.raises(IndexError):
        sequences[1]


@pytest.mark.parametrize(
    ("items", "offsets", "words"),
    [
        ([1, 2], [0, 1], "end at the number of items"),
        ([1, 2], [0, 3, 2], "never decrease"),
        ([1, 2], [1, 2], "start at 0"),
        ([1, 0], [0, 2], "from 1 up"),
    ],
)
def test_wrong_arrays_are_refused(items: list[int], offsets: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sequences(np.array(items, np.int32), np.array(offsets))


def test_counts_refuse_an_id_beyond_the_catalogue() -> None:
    with pytest.raises(ValueError, match="id 9, beyond n_items=8"):
        Sequences.from_lists([[9]]).counts(8)
