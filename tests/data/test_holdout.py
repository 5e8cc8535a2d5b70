"""What is kept from training: all after a time, and items that nobody shall have bought."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odmt_fast.batch.candidates import Candidates
from odmt_fast.config import ModelConfig
from odmt_fast.data import Dataset, Filters, HoldOut, Interactions, ItemTable, Report, Sequences
from odmt_fast.data.filters import Log, assemble, settle_repeats
from odmt_fast.data.holdout import cold_order, parts_by_time, shown_time

NAMES = tuple(f"i{item}" for item in range(1, 13))
KEEP_ALL = Filters(min_seq_len=3)


def log_of(users: list[list[int]], times: np.ndarray | None = None) -> Log:
    return Log(
        tuple(f"u{user}" for user in range(len(users))),
        ItemTable(NAMES, NAMES, (None,) * len(NAMES)),
        Sequences.from_lists(users),
        Report(source="x"),
        times=times,
    )


@st.composite
def timed_logs(draw: st.DrawFn) -> Log:
    users = draw(st.lists(st.lists(st.integers(1, 12), min_size=4, max_size=9), min_size=2))
    times = [sorted(draw(st.integers(0, 40)) for _ in user) for user in users]
    return log_of(users, np.array(sum(times, []), np.int64))


@given(log=timed_logs(), share=st.sampled_from([0.1, 0.25, 0.4]))
def test_nothing_of_the_future_is_trained_on(log: Log, share: float) -> None:
    how = HoldOut(split="time", valid_share=share, test_share=share)
    try:
        data = assemble(log, KEEP_ALL, how)
    except ValueError as error:
        assert "too many are at one time" in str(error)
        return
    parts, times = data.parts, log.times
    assert parts is not None and times is not None
    assert times[parts == 0].max() < times[parts == 1].min()
    assert times[parts <= 1].max() < times[parts == 2].min()
    assert (parts == 2).mean() >= share - 1e-9
    assert (parts >= 1).mean() >= 2 * share - 1e-9
    try:
        split = data.split(5)
    except ValueError as error:
        assert "no validation" in str(error) or "no test" in str(error)
        return
    # Counts and shares know the training part alone.
    past = np.bincount(log.sequences.items[parts == 0], minlength=13)[1:] > 0
    used = np.bincount(log.sequences.items, minlength=13)[1:] > 0
    assert not (split.popularity[1:] > 0)[~past[used]].any()
    trained = set(data.sequences.items[parts == 0].tolist())
    assert set(split.train.items.tolist()) <= trained
    for power in (0.0, 0.5):
        config = ModelConfig(candidates="sampled", draws=200, draw_power=power)
        drawn = Candidates(config, split.popularity, 1, split.offered).draw(1, 0)
        assert set(drawn.tolist()) <= trained


def test_the_rule_is_told_with_its_times() -> None:
    times = np.array([1.6e9, 1.6e9 + 60, 1.6e9 + 60, 1.6e9 + 120, 1.6e9 + 180])
    parts, told = parts_by_time(times, HoldOut("time", valid_share=0.4, test_share=0.2))
    assert parts.tolist() == [0, 1, 1, 1, 2]
    assert told == (
        "split by time: validation from 2020-09-13 12:27:40 UTC, test from 2020-09-13 12:29:40 "
        "UTC; equal times go to the later part (3 interactions are at one of the two)"
    )
    assert shown_time(1_600_000_000_000) == "2020-09-13 12:26:40 UTC"
    assert shown_time(7) == "7"


def test_times_follow_repeats_and_filters() -> None:
    frame = {
        "user": ["a", "a", "a", "a", "b", "c", "c", "c"],
        "item": ["x", "x", "y", "z", "x", "y", "x", "z"],
        "timestamp": [1, 1, 2, 9, 3, 4, 5, 8],
    }
    data = Dataset.from_frames(
        frame,
        filters=Filters(min_seq_len=3, repeats="drop"),
        holdout=HoldOut("time", valid_share=0.2, test_share=0.3),
    )
    assert data.users == ("a", "c")
    assert data.parts is not None
    assert data.parts.tolist() == [0, 0, 2, 0, 1, 2]
    assert data.report.lines()[-1].startswith("split by time: validation from 5, test from 8")


@given(log=timed_logs(), share=st.sampled_from([0.1, 0.3, 0.6]), timed=st.booleans())
def test_cold_items_are_in_no_training_and_no_input(log: Log, share: float, timed: bool) -> None:
    how = HoldOut("time" if timed else "leave-one-out", 0.2, 0.2, cold_items=share)
    try:
        warm = assemble(log, KEEP_ALL, replace(how, cold_items=0.0))
        data = assemble(log, KEEP_ALL, how)
        split = data.split(5)
    except ValueError as error:
        assert "too many are at one time" in str(error) or "interaction with others" in str(error)
        return
    assert data.items.ids == warm.items.ids
    held = data.report.items_cold
    assert held == round(share * len(data.items))
    cold = set((np.sort(cold_order(data.items.ids, 1)[:held]) + 1).tolist())
    assert not cold & set(split.train.items.tolist())
    assert not cold & set(split.valid.items.tolist())
    assert not (split.popularity[[*cold]] > 0).any()
    assert not split.offered[[*cold]].any()
    # Training is that of before, less the held-out items.
    before, parts = warm.sequences.items, warm.parts
    if parts is None:
        left = warm.sequences.offsets[1:][warm.sequences.user_of_item()]
        left = left - np.arange(before.size)
        parts = np.select([left == 1, left == 2], [2, 1], 0)
    expected = before[(parts == 0) & ~np.isin(before, [*cold])]
    assert data.parts is not None
    assert data.sequences.items[data.parts == 0].tolist() == expected.tolist()
    assert (data.parts == 2).sum() == (parts == 2).sum()


def test_the_seed_and_the_name_decide_who_is_cold() -> None:
    order = [NAMES[row] for row in cold_order(NAMES, 3).tolist()]
    backwards = NAMES[::-1]
    assert [backwards[row] for row in cold_order(backwards, 3).tolist()] == order
    assert order != [NAMES[row] for row in cold_order(NAMES, 4).tolist()]
    assert order[:3] == ["i9", "i6", "i8"]  # for all time


def test_unbought_items_stay_where_they_are_wanted(tmp_path: object) -> None:
    log = log_of([[1, 2, 3], [2, 3, 1]])
    bare = replace(log.items, texts=(*NAMES[:4], None, *NAMES[5:]))
    log = settle_repeats(replace(log, items=bare), "keep")
    assert len(assemble(log, KEEP_ALL).items) == 3
    data = assemble(log, replace(KEEP_ALL, keep_unbought=True))
    assert data.items.ids == tuple(name for name in NAMES if name != "i5")
    assert (data.report.items_unbought, data.report.items_unused) == (8, 1)
    data.save(str(tmp_path))
    again = Interactions.load(str(tmp_path))
    assert again.items.ids == data.items.ids
    assert (again.split(3).popularity == 0).sum() == 9


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"split": "weekly"}, "--split weekly does not exist; use leave-one-out, time"),
        ({"valid_share": 0.0}, "--valid-share 0.0 must be between 0 and 1"),
        ({"valid_share": 0.6, "test_share": 0.4}, "leave nothing to train on"),
        ({"cold_items": 1.0}, "--cold-items 1.0 must be at least 0 and below 1"),
    ],
)
def test_what_cannot_be_held_out_is_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        HoldOut(**values)  # type: ignore[arg-type]


def test_a_split_by_time_wants_times_and_no_split() -> None:
    log = log_of([[1, 2, 3]])
    with pytest.raises(ValueError, match="the source has no times; name their column"):
        assemble(log, KEEP_ALL, HoldOut(split="time"))
    log = replace(log, parts=np.array([0, 1, 2], np.int8), times=np.arange(3))
    with pytest.raises(ValueError, match="is split already"):
        assemble(log, KEEP_ALL, HoldOut(split="time"))
    with pytest.raises(ValueError, match="too many are at one time"):
        assemble(log_of([[1, 2, 3]], np.ones(3)), KEEP_ALL, HoldOut(split="time"))
