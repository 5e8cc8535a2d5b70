"""Exact top-k against sorting, recommendations by name, and the exported vectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from odmt_fast.config import ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.kernels.rank_of_target import rank_of_target
from odmt_fast.models.users.base import UserEncoder
from odmt_fast.retrieval import (
    KnownUsers,
    Parts,
    Recommender,
    export_vectors,
    item_vectors,
    load_vectors,
    top_k,
    user_vectors,
)
from odmt_fast.retrieval.parts import NOBODY

N_ITEMS = 30


class LastInput(UserEncoder):
    """A user encoder that remembers what it was asked and reads the last input only."""

    def __init__(self) -> None:
        super().__init__(max_seq_len=2)
        self.asked: list[Tensor] = []

    def encode(self, catalogue: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        self.asked.append(items)
        return catalogue[:, items[offsets[1:] - 1]]


def catalogue() -> Tensor:
    return pad(torch.randn(3, N_ITEMS, 5, generator=torch.Generator().manual_seed(3)), (0, 0, 1, 0))


def recommender() -> Recommender:
    table = ItemTable(
        ids=tuple(f"i{i}" for i in range(1, N_ITEMS + 1)),
        texts=tuple(None if i == 4 else f"title {i}" for i in range(1, N_ITEMS + 1)),
        images=(None,) * N_ITEMS,
    )
    known = KnownUsers(("u", "v", "w"), HISTORIES)
    settings = ModelConfig(max_seq_len=2)
    return Recommender(
        Parts(settings, ("id", "text", "image"), catalogue(), LastInput(), table, known)
    )


HISTORIES = Sequences.from_lists([[1, 2, 3, 4], [7], [9, 9, 8]])


def test_one_inner_product_is_the_mean_of_the_branches() -> None:
    states, items = torch.randn(3, 4, 5), catalogue()
    scores = user_vectors(states) @ item_vectors(items).t()
    expected = (states @ items.transpose(1, 2)).mean(0)
    torch.testing.assert_close(scores, expected)


def test_top_k_equals_sorting() -> None:
    users, items = torch.randn(3, 15), item_vectors(catalogue())
    offsets, history = torch.tensor(HISTORIES.offsets), torch.tensor(HISTORIES.items).long()
    ids, scores = top_k(users, items, 6, offsets, history)
    everything = users @ items.t()
    everything[:, 0] = -torch.inf
    for user in range(3):
        everything[user, HISTORIES[user].tolist()] = -torch.inf
    order = everything.argsort(dim=1, descending=True)[:, :6]
    assert torch.equal(ids, order)
    torch.testing.assert_close(scores, everything.gather(1, order))


def test_top_k_agrees_with_the_rank() -> None:
    items, users = catalogue(), torch.randn(3, 3, 5)
    offsets, history = torch.tensor(HISTORIES.offsets), torch.tensor(HISTORIES.items).long()
    vectors = user_vectors(users), item_vectors(items)
    ids, _ = top_k(*vectors, 5, offsets, history)
    for place in range(5):
        ranks, _ = rank_of_target(users, items, ids[:, place], offsets, history)
        assert ranks[-1].eq(place + 1).all()


def test_too_few_items_are_marked() -> None:
    items = torch.randn(4, 2)
    ids, scores = top_k(torch.randn(1, 2), items, 5, torch.tensor([0, 1]), torch.tensor([2]))
    assert sorted(ids[0].tolist()) == [-1, -1, -1, 1, 3]
    assert scores[0, 2:].eq(-torch.inf).all()


def names(*users: list[int]) -> list[list[str]]:
    return [[f"i{i}" for i in user] for user in users]


NAMES = names([1, 2, 3, 4], [7], [9, 9, 8])


def test_recommendations_are_new_named_and_ordered() -> None:
    asked = recommender()
    lists = asked.recommend(NAMES, 28)
    # Four, one and two distinct items are left out of thirty.
    assert [len(items) for items in lists] == [26, 28, 28]
    assert not {"i1", "i2", "i3", "i4"} & {item.id for item in lists[0]}
    scores = [item.score for item in lists[0]]
    assert scores == sorted(scores, reverse=True)
    titles = {item.id: item.title for items in lists for item in items}
    assert titles["i5"] == "title 5"
    assert titles["i4"] is None
    # The model has two steps: of the first history it reads items 3 and 4.
    assert isinstance(asked.parts.users, LastInput)
    assert asked.parts.users.asked[0].tolist() == [3, 4, 7, 9, 8]


def test_names_and_empty_histories_are_checked() -> None:
    asked = recommender()
    assert asked.dense_ids(["i3", "i1"]) == [3, 1]
    assert asked.recommend([]) == []
    with pytest.raises(ValueError, match="'i99' is not in the catalogue"):
        asked.recommend([["i1", "i99"]])
    with pytest.raises(ValueError, match=r"'i1' stands where a list of item ids must; write"):
        asked.recommend(["i1", "i2"])
    with pytest.raises(ValueError, match="item 7 is not in .* ids are texts, such as '7'"):
        asked.recommend([[7]])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="user 1 is empty"):
        asked.recommend([["i1"], []], 3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        asked.recommend(NAMES, 0)
    short = ItemTable(("a",), (None,), (None,))
    with pytest.raises(ValueError, match="items has 1 rows, the model knows 30"):
        replace(asked.parts, items=short)
    with pytest.raises(ValueError, match="branches has 1 names for 3"):
        replace(asked.parts, branches=("id",))


def test_allow_and_deny() -> None:
    asked = recommender()
    everything = asked.recommend(NAMES, 30)
    allow, deny = [f"i{i}" for i in range(20, 0, -1)], ["i2", "i20", "i30"]
    for kwargs, shown in (
        ({"allow": allow}, set(allow)),
        ({"deny": deny}, {f"i{i}" for i in range(1, 31)} - set(deny)),
        ({"allow": allow, "deny": deny}, set(allow) - set(deny)),
    ):
        found = asked.recommend(NAMES, 30, **kwargs)
        for mine, whole in zip(found, everything, strict=True):
            expected = [item for item in whole if item.id in shown]
            assert [item.id for item in mine] == [item.id for item in expected]
            assert [item.score for item in mine] == pytest.approx([i.score for i in expected])
    assert asked.recommend(NAMES, 5, allow=[]) == [[], [], []]
    assert asked.recommend(NAMES, 5, deny=["i31"]) == asked.recommend(NAMES, 5)
    with pytest.raises(ValueError, match="none of the 1 items of allow may be returned"):
        asked.recommend(NAMES, 5, allow=["i31"])


def test_everybody_is_a_table_of_the_same_lists() -> None:
    asked = recommender()
    table = asked.recommend_all(27, deny=["i5"])
    assert table.schema.names == ["user", "rank", "item", "title", "score"]
    rows = table.to_pylist()
    for user, items in zip("uvw", asked.recommend(NAMES, 27, deny=["i5"]), strict=True):
        mine = [row for row in rows if row["user"] == user]
        assert [row["rank"] for row in mine] == list(range(1, len(items) + 1))
        assert [(row["item"], row["title"]) for row in mine] == [(i.id, i.title) for i in items]
        assert [row["score"] for row in mine] == [item.score for item in items]
    assert asked.history("w") == ["i9", "i9", "i8"]
    with pytest.raises(ValueError, match="'x' is not among the 3 known users"):
        asked.history("x")
    strangers = Recommender(replace(asked.parts, known=NOBODY))
    with pytest.raises(ValueError, match="no user is known here; export the run with --users"):
        strangers.recommend_all()


def test_similar_items_have_the_nearest_directions() -> None:
    asked = recommender()
    (found,) = asked.similar(["i3"], 29)
    flat = torch.nn.functional.normalize(asked.item_vectors[1:], dim=1)
    cosines = flat @ flat[2]
    order = [f"i{i + 1}" for i in cosines.argsort(descending=True).tolist() if i != 2]
    assert [item.id for item in found] == order
    assert found[0].score == pytest.approx(float(cosines.sort().values[-2]))
    assert asked.similar([]) == []
    assert {item.id for item in asked.similar(["i3"], 9, allow=["i3", "i4"])[0]} == {"i4"}


def test_the_shares_of_the_branches_sum_to_the_score() -> None:
    asked = recommender()
    best = asked.recommend(NAMES, 1)[0][0]
    shares = asked.explain(NAMES[0], best.id)
    assert list(shares) == ["id", "text", "image"]
    assert sum(shares.values()) == pytest.approx(best.score, rel=1e-5)
    whole = asked.parts.catalogue
    row = int(best.id[1:])
    assert shares["text"] == pytest.approx(float(whole[1, 4] @ whole[1, row]) / 3, rel=1e-5)


def test_exported_vectors_give_the_scores(tmp_path: Path) -> None:
    asked = recommender()
    export_vectors(tmp_path, "items", asked.item_vectors[1:], asked.items.ids)
    export_vectors(tmp_path, "users", asked.user_vectors(HISTORIES), ["u", "v", "w"])
    items, users = load_vectors(tmp_path, "items"), load_vectors(tmp_path, "users")
    assert users.ids == ("u", "v", "w")
    best = asked.recommend(NAMES, 1)[1][0]
    score = users.values[1] @ items.values[items.ids.index(best.id)]
    assert score.item() == pytest.approx(best.score, rel=1e-5)
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(ValueError, match="1 names for 30"):
        export_vectors(tmp_path, "items", asked.item_vectors[1:], ["x"])
