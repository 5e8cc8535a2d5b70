"""Lists under allow and deny, for everybody or every history apart, against sorting all scores."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from odmt_fast.data.sequences import Sequences
from odmt_fast.retrieval import Recommendation, Recommender
from odmt_fast.retrieval.candidates import top_k_among

from .test_bundle import N_ITEMS, recommender

NAMES = st.sampled_from([*(f"i{i}" for i in range(N_ITEMS)), "absent"])
LIST = st.lists(NAMES, max_size=12)


@pytest.fixture(scope="module")
def asked() -> Recommender:
    return recommender()


def check(
    asked: Recommender,
    found: list[Recommendation],
    history: list[str],
    k: int,
    allow: list[str] | None,
    deny: list[str],
) -> None:
    """The best of what may be returned, by its definition; equal but for rounding is equal."""
    (row,) = asked.user_vectors(Sequences.from_lists([asked.dense_ids(history)]))
    scores = dict(zip(asked.items.ids, (asked.item_vectors[1:] @ row).tolist(), strict=True))
    may = [
        item
        for item in scores
        if item not in history and item not in deny and (allow is None or item in allow)
    ]
    best = sorted((scores[item] for item in may), reverse=True)[:k]
    assert [item.score for item in found] == pytest.approx(best, abs=1e-5)
    assert [item.score for item in found] == pytest.approx(
        [scores[item.id] for item in found], abs=1e-5
    )
    assert len({item.id for item in found}) == len(found)
    assert {item.id for item in found} <= set(may)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_lists_of_their_own(asked: Recommender, data: st.DataObject) -> None:
    users = data.draw(st.integers(1, 4))
    histories = [
        data.draw(st.lists(NAMES.filter(lambda n: n != "absent"), min_size=1, max_size=7))
        for _ in range(users)
    ]
    k = data.draw(st.integers(1, N_ITEMS + 2))
    allow, deny = (
        data.draw(st.lists(LIST, min_size=users, max_size=users))
        if data.draw(st.booleans())
        else []
        for _ in range(2)
    )
    for_all = data.draw(LIST)
    found = asked.recommend(histories, k, allow=allow or None, deny=deny or for_all)
    for user, items in enumerate(found):
        mine = allow[user] if allow else None
        check(asked, items, histories[user], k, mine, deny[user] if deny else for_all)


def test_many_users_with_lists_of_their_own(asked: Recommender) -> None:
    histories = [asked.history(name) for name in asked.known.names]
    allow = [[f"i{(user + step) % N_ITEMS}" for step in range(9)] for user in range(len(histories))]
    found = asked.recommend(histories, 5, allow=allow)
    for user in (0, 511, 512, 699):
        check(asked, found[user], histories[user], 5, allow[user], [])
    assert asked.recommend_all(5, allow=allow).num_rows == sum(map(len, found))


def test_wrong_lists_are_refused(asked: Recommender) -> None:
    for name in ("allow", "deny"):
        with pytest.raises(ValueError, match=f"{name} has 1 entries for 2 histories; give a list"):
            asked.recommend([["i1"], ["i2"]], **{name: [["i3"]]})
        with pytest.raises(ValueError, match=f"{name} has 2 entries for 2 histories; give a list"):
            asked.recommend([["i1"], ["i2"]], **{name: [["i3"], "i4"]})
        with pytest.raises(ValueError, match=f"{name} is 'i3', where a list of item ids must be"):
            asked.recommend([["i1"]], **{name: "i3"})
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        asked.recommend([["i1"]], 0, allow=[["i3"]])


def test_equal_scores_and_what_is_not_finite() -> None:
    items = torch.ones(5, 2)
    offsets, candidates = torch.tensor([0, 4, 4]), torch.tensor([3, 0, 2, 3])
    nothing = torch.tensor([0, 0, 0]), torch.tensor([], dtype=torch.int64)
    ids, scores = top_k_among(torch.ones(2, 2), items, 3, offsets, candidates, *nothing)
    assert ids.tolist() == [[2, 3, -1], [-1, -1, -1]]
    assert scores.tolist() == [[2, 2, -torch.inf], [-torch.inf] * 3]
    items[3] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        top_k_among(torch.ones(2, 2), items, 3, offsets, candidates, *nothing)
