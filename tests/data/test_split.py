from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from odmt_fast.data import Sequences, leave_one_out

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("case", sorted(path.stem for path in GOLDEN.glob("*.json")))
def test_golden_popularity_is_reproduced_exactly(case: str) -> None:
    facts = json.loads((GOLDEN / f"{case}.json").read_text())
    expected = load_file(GOLDEN / f"{case}.safetensors")["input/popularity"]
    split = leave_one_out(
        Sequences.from_lists(facts["users"]), facts["n_items"], facts["args"]["max_seq_len"]
    )
    assert split.popularity.dtype == np.float64
    assert np.array_equal(split.popularity, expected)


def test_some_validation_targets_are_drawn_once_and_keep_their_histories() -> None:
    users = [[user, user % 7 + 10, user % 5 + 20, user % 3 + 30] for user in range(1, 9)]
    split = leave_one_out(Sequences.from_lists(users), 40, 3)
    everybody = [row.tolist() for row in split.valid]
    for most in (None, 8, 100):
        assert [row.tolist() for row in split.validated(most)[0]] == everybody
    some, history = split.validated(3)
    chosen = [everybody.index(row.tolist()) for row in some]
    assert chosen == sorted(set(chosen)) and len(chosen) == 3
    assert [row.tolist() for row in history] == [split.valid_history[u].tolist() for u in chosen]
    assert [row.tolist() for row in split.validated(3)[0]] == [row.tolist() for row in some]


@given(
    users=st.lists(st.lists(st.integers(1, 20), min_size=3, max_size=15), min_size=1, max_size=5),
    steps=st.integers(1, 10),
)
def test_cuts_are_the_official_slices(users: list[list[int]], steps: int) -> None:
    sequences = Sequences.from_lists(users)
    split = leave_one_out(sequences, 20, steps)
    official = leave_one_out(sequences, 20, steps, full_history=False)
    for user, whole in enumerate(users):
        u = whole[-(steps + 3) :]
        assert split.train[user].tolist() == u[:-2]
        assert split.valid[user].tolist() == u[-(steps + 2) : -1]
        assert split.test[user].tolist() == u[-(steps + 1) :]
        assert split.valid_history[user].tolist() == whole[:-2]
        assert split.test_history[user].tolist() == whole[:-1]
        assert official.valid_history[user].tolist() == u[:-2]
        assert official.test_history[user].tolist() == u[:-1]
    assert split.popularity[0] == 1
    assert split.popularity[1:].sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="read-only"):
        split.popularity[1] = 0


@pytest.mark.parametrize(
    ("users", "n_items", "steps", "words"),
    [
        ([[1, 2, 3], [1, 2]], 3, 5, "user 1 has 2"),
        ([], 3, 5, "no user is left"),
        ([[1, 2, 4]], 3, 5, "beyond n_items=3"),
        ([[1, 2, 3]], 3, 0, "max_seq_len must be at least 1"),
    ],
)
def test_what_cannot_be_split_is_refused(
    users: list[list[int]], n_items: int, steps: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        leave_one_out(Sequences.from_lists(users), n_items, steps)
