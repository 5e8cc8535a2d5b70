"""A split that was made already: kept by filters, stored, and ranked target by target."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from odmt_fast.data import DataError, Filters, Interactions, ItemTable, Report, Sequences
from odmt_fast.data.filters import Log, assemble, settle_repeats, without_items
from odmt_fast.data.split import ready_made

USERS = ("anna", "bob", "cleo")
LISTS = [[1, 2, 3, 4, 5, 6], [2, 2, 7, 1], [3, 4, 5]]
PARTS = np.array([0, 0, 0, 1, 2, 2, 0, 0, 1, 2, 1, 2, 2], np.int8)


def log() -> Log:
    items = ItemTable(tuple("abcdefg"), (None,) * 7, (None,) * 7)
    return Log(USERS, items, Sequences.from_lists(LISTS), Report(source="x"), parts=PARTS)


def lists(sequences: Sequences) -> list[list[int]]:
    return [sequences[row].tolist() for row in range(len(sequences))]


def test_every_held_out_interaction_with_inputs_is_a_target() -> None:
    split = ready_made(Sequences.from_lists(LISTS), PARTS, 7, max_seq_len=2)
    assert split.kind == "ready-made"
    assert lists(split.train) == [[1, 2, 3], [2, 2], []]
    assert lists(split.valid) == [[2, 3, 4], [2, 2, 7]]
    assert lists(split.test) == [[3, 4, 5], [4, 5, 6], [2, 7, 1], [3, 4], [3, 4, 5]]
    assert lists(split.valid_history) == [[1, 2, 3], [2, 2]]
    assert lists(split.test_history)[:2] == [[1, 2, 3, 4], [1, 2, 3, 4, 5]]
    shares = [1, 1 / 5, 3 / 5, 1 / 5, 0, 0, 0, 0]
    np.testing.assert_allclose(split.popularity, shares)
    short = ready_made(Sequences.from_lists(LISTS), PARTS, 7, max_seq_len=2, full_history=False)
    assert lists(short.test_history)[1] == [4, 5]


def test_leave_one_out_is_the_ready_made_split_of_its_own_parts() -> None:
    sequences = Sequences.from_lists([LISTS[0], LISTS[1]])
    parts = np.array([0, 0, 0, 0, 1, 2, 0, 0, 1, 2], np.int8)
    data = Interactions(USERS[:2], log().items, sequences, Report())
    plain = data.split(3)
    made = Interactions(USERS[:2], log().items, sequences, Report(), parts).split(3)
    for name in ("train", "valid", "test", "valid_history", "test_history"):
        assert lists(getattr(made, name)) == lists(getattr(plain, name)), name
    assert np.array_equal(made.popularity, plain.popularity)


@pytest.mark.parametrize(
    ("filters", "users", "parts"),
    [
        (Filters(min_seq_len=3), USERS, PARTS.tolist()),
        (Filters(min_seq_len=4), USERS[:2], PARTS[:10].tolist()),
        (Filters(min_seq_len=3, keep_last=3), USERS, [1, 2, 2, 0, 1, 2, 1, 2, 2]),
        # Item 6 (one interaction of anna's, a test) and 7 (bob's validation) go.
        (Filters(min_seq_len=3, k_core=2), USERS, [0, 0, 0, 1, 2, 0, 0, 2, 1, 2, 2]),
        (Filters(min_seq_len=3, repeats="collapse"), USERS, np.delete(PARTS, 7).tolist()),
    ],
    ids=str,
)
def test_filters_take_the_parts_along(
    filters: Filters, users: tuple[str, ...], parts: list[int]
) -> None:
    data = assemble(settle_repeats(log(), filters.repeats), filters)
    assert data.users == users
    assert data.parts is not None
    assert data.parts.tolist() == parts


def test_items_left_out_take_their_parts_along() -> None:
    data = assemble(without_items(log(), [2]), Filters(min_seq_len=3))  # item 3
    assert data.parts is not None
    assert data.parts.tolist() == [0, 0, 1, 2, 2, 0, 0, 1, 2]


def test_targets_without_an_input_are_counted() -> None:
    data = assemble(log(), Filters(min_seq_len=3))
    assert data.report.targets_first == 1
    assert any("which no one ranks" in line for line in data.report.lines())


def test_the_dataset_keeps_the_split_and_says_so(tmp_path: Path) -> None:
    data = assemble(log(), Filters(min_seq_len=3))
    data.save(tmp_path)
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    assert (manifest["version"], manifest["split"]) == (2, "ready-made")
    again = Interactions.load(tmp_path)
    assert again.parts is not None and np.array_equal(again.parts, PARTS)
    manifest["split"] = "leave-one-out"
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="says split 'leave-one-out', the files hold a ready-made"):
        Interactions.load(tmp_path)


def test_a_plain_dataset_stays_readable_by_older_programs(tmp_path: Path) -> None:
    plain = assemble(log(), Filters(min_seq_len=3))
    Interactions(plain.users, plain.items, plain.sequences, plain.report).save(tmp_path)
    manifest = json.loads((tmp_path / "dataset.json").read_text())
    assert (manifest["version"], manifest["split"]) == (1, "leave-one-out")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([0, 0, 1], "parts has 3 entries"),
        ([0, 1, 0, 0, 1, 2], "must ascend within every user"),
        ([0, 0, 3, 0, 1, 2], "must be 0, 1 or 2"),
        ([0, 0, 1, 0, 0, 1], "no test interaction"),
        ([0, 0, 2, 1, 2, 2], "no validation interaction"),
    ],
)
def test_parts_that_are_none(parts: list[int], reason: str) -> None:
    sequences = Sequences.from_lists([[1, 2, 3], [1, 2, 3]])
    with pytest.raises(ValueError, match=reason):
        ready_made(sequences, np.array(parts, np.int8), 3, 5)
