"""Exact top-k against sorting, recommendations by name, and the exported vectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.kernels.rank_of_target import rank_of_target
from odmt_fast.retrieval import (
    Recommender,
    export_vectors,
    item_vectors,
    load_vectors,
    top_k,
    user_vectors,
)

N_ITEMS = 30


class Table:
    """A ranker that remembers what it was asked and reads the last input only."""

    branches = ("id", "text", "image")

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(3)
        self.catalogue = torch.randn(3, N_ITEMS + 1, 5, generator=g)
        self.catalogue[:, 0] = 50.0
        self.asked: list[Tensor] = []

    def encode_catalogue(self) -> Tensor:
        return self.catalogue

    def encode_users(self, catalogue: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        self.asked.append(items)
        return catalogue[:, items[offsets[1:] - 1]]


def recommender(model: Table | None = None) -> Recommender:
    table = ItemTable(
        ids=tuple(f"i{i}" for i in range(1, N_ITEMS + 1)),
        texts=tuple(None if i == 4 else f"title {i}" for i in range(1, N_ITEMS + 1)),
        images=(None,) * N_ITEMS,
    )
    return Recommender(model or Table(), table, max_seq_len=2)


HISTORIES = Sequences.from_lists([[1, 2, 3, 4], [7], [9, 9, 8]])


def test_one_inner_product_is_the_mean_of_the_branches() -> None:
    model = Table()
    states = torch.randn(3, 4, 5)
    scores = user_vectors(states) @ item_vectors(model.catalogue).t()
    expected = (states @ model.catalogue.transpose(1, 2)).mean(0)
    torch.testing.assert_close(scores, expected)


def test_top_k_equals_sorting() -> None:
    users, items = torch.randn(3, 15), item_vectors(Table().catalogue)
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
    model, users = Table(), torch.randn(3, 3, 5)
    offsets, history = torch.tensor(HISTORIES.offsets), torch.tensor(HISTORIES.items).long()
    vectors = user_vectors(users), item_vectors(model.catalogue)
    ids, _ = top_k(*vectors, 5, offsets, history)
    for place in range(5):
        ranks, _ = rank_of_target(users, model.catalogue, ids[:, place], offsets, history)
        assert ranks[-1].eq(place + 1).all()


def test_too_few_items_are_marked() -> None:
    items = torch.randn(4, 2)
    ids, scores = top_k(torch.randn(1, 2), items, 5, torch.tensor([0, 1]), torch.tensor([2]))
    assert sorted(ids[0].tolist()) == [-1, -1, -1, 1, 3]
    assert scores[0, 2:].eq(-torch.inf).all()


def test_recommendations_are_new_named_and_ordered() -> None:
    model = Table()
    lists = recommender(model).recommend(HISTORIES, 28)
    # Four, one and two distinct items are left out of thirty.
    assert [len(items) for items in lists] == [26, 28, 28]
    assert not {"i1", "i2", "i3", "i4"} & {item.id for item in lists[0]}
    scores = [item.score for item in lists[0]]
    assert scores == sorted(scores, reverse=True)
    titles = {item.id: item.title for items in lists for item in items}
    assert titles["i5"] == "title 5"
    assert titles["i4"] is None
    # The model has two steps: of the first history it reads items 3 and 4.
    assert model.asked[0].tolist() == [3, 4, 7, 9, 8]


def test_names_and_empty_histories_are_checked() -> None:
    asked = recommender()
    assert asked.dense_ids(["i3", "i1"]) == [3, 1]
    with pytest.raises(ValueError, match="'i99' is not in the catalogue"):
        asked.dense_ids(["i1", "i99"])
    with pytest.raises(ValueError, match="user 1 is empty"):
        asked.recommend(Sequences.from_lists([[1], []]), 3)
    with pytest.raises(ValueError, match="k must be at least 1"):
        asked.recommend(HISTORIES, 0)
    short = ItemTable(("a",), (None,), (None,))
    with pytest.raises(ValueError, match="items has 1 rows, the model knows 30"):
        Recommender(Table(), short, 2)


def test_exported_vectors_give_the_scores(tmp_path: Path) -> None:
    asked = recommender()
    export_vectors(tmp_path, "items", asked.item_vectors[1:], asked.items.ids)
    export_vectors(tmp_path, "users", asked.user_vectors(HISTORIES), ["u", "v", "w"])
    items, users = load_vectors(tmp_path, "items"), load_vectors(tmp_path, "users")
    assert users.ids == ("u", "v", "w")
    best = asked.recommend(HISTORIES, 1)[1][0]
    score = users.values[1] @ items.values[items.ids.index(best.id)]
    assert score.item() == pytest.approx(best.score, rel=1e-5)
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(ValueError, match="1 names for 30"):
        export_vectors(tmp_path, "items", asked.item_vectors[1:], ["x"])
