from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odmt_fast.data import DataError, Filters, ItemTable, Report, Sequences
from odmt_fast.data.filters import Log, assemble, core


def make_log(users: list[list[int]], n_items: int) -> Log:
    names = tuple(f"i{i}" for i in range(1, n_items + 1))
    items = ItemTable(names, names, (None,) * n_items)
    return Log(
        users=tuple(f"u{u}" for u in range(len(users))),
        items=items,
        sequences=Sequences.from_lists(users),
        report=Report("official", "here", interactions_read=sum(map(len, users))),
    )


def official_items(users: list[list[int]], min_seq_len: int, cut: int) -> tuple[list[str], list]:
    """utils/load_data.py::read_behaviors, in words: drop short users, cut, renumber used items."""
    kept = [u[-cut:] for u in users if len(u) >= min_seq_len]
    used = sorted({item for u in kept for item in u})
    now = {item: number for number, item in enumerate(used, 1)}
    return [f"i{item}" for item in used], [[now[item] for item in u] for u in kept]


USERS = st.lists(st.lists(st.integers(1, 12), max_size=9), min_size=1, max_size=12)


@given(users=USERS, min_seq_len=st.integers(3, 5), cut=st.integers(3, 8))
def test_defaults_are_the_official_filter(
    users: list[list[int]], min_seq_len: int, cut: int
) -> None:
    names, sequences = official_items(users, min_seq_len, cut)
    filters = Filters(min_seq_len=min_seq_len, keep_last=cut)
    if not sequences:
        with pytest.raises(DataError, match="no user is left"):
            assemble(make_log(users, 12), filters)
        return
    data = assemble(make_log(users, 12), filters)
    assert list(data.items.ids) == names
    assert [items.tolist() for items in data.sequences] == sequences
    assert list(data.users) == [f"u{i}" for i, u in enumerate(users) if len(u) >= min_seq_len]


@given(users=USERS, k=st.integers(1, 4), least=st.integers(3, 5))
def test_core_is_the_largest_set_that_holds(users: list[list[int]], k: int, least: int) -> None:
    pairs = [(u, item) for u, items in enumerate(users) for item in items]
    while True:
        per_user = np.bincount([u for u, _ in pairs], minlength=len(users))
        per_item = np.bincount([i for _, i in pairs], minlength=13)
        left = [(u, i) for u, i in pairs if per_user[u] >= least and per_item[i] >= k]
        if left == pairs:
            break
        pairs = left
    keep_users, keep_items = core(Sequences.from_lists(users), 12, least_user=least, k=k)
    assert set(np.flatnonzero(keep_users)) == {u for u, _ in pairs}
    assert set(np.flatnonzero(keep_items)) == {i for _, i in pairs}


@given(users=USERS, k=st.integers(1, 3), cut=st.none() | st.integers(3, 6))
def test_every_interaction_and_item_is_accounted_for(
    users: list[list[int]], k: int, cut: int | None
) -> None:
    try:
        data = assemble(make_log(users, 12), Filters(min_seq_len=3, k_core=k, keep_last=cut))
    except DataError:
        return
    report = data.report
    assert report.users_read == len(users)
    assert report.users == report.users_read - (
        report.users_empty + report.users_too_short + report.users_below_core
    )
    assert report.items == report.items_read - report.items_below_core - report.items_unused
    assert (report.users, report.items) == (data.n_users, data.n_items)
    assert report.interactions == data.sequences.items.size
    assert (data.sequences.counts(data.n_items)[1:] > 0).all()
    assert report.items_bare == 0 and report.items_without_image == data.n_items


def test_core_filter_cascades() -> None:
    # Item 3 is rare; without it user 1 is short; without user 1 item 2 is rare.
    users = [[1, 1, 1, 1], [1, 2, 3], [1, 1, 2, 1]]
    data = assemble(make_log(users, 3), Filters(min_seq_len=3, k_core=2))
    assert data.items.ids == ("i1",)
    assert data.users == ("u0", "u2")
    assert (data.report.users_below_core, data.report.items_below_core) == (1, 2)


@pytest.mark.parametrize("bad", [{"min_seq_len": 2}, {"k_core": 0}, {"keep_last": 2}])
def test_filters_out_of_range_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))} must be at least"):
        Filters(**bad)


def test_report_lines_show_totals_and_leave_out_drops_of_zero() -> None:
    lines = Report("hm", "/data/hm", users_read=1200, users_too_short=3).lines()
    assert lines[0] == "/data/hm (hm)"
    assert "       1,200 users read" in lines
    assert any(line.endswith("shorter than the least sequence length") for line in lines)
    assert not any("k-core" in line for line in lines)
