"""An ensemble of the branches that know the item: ranks, lists and bundles by brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from odmt_fast.config import EvaluationConfig, ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.evaluation import evaluate
from odmt_fast.features.extract import extract
from odmt_fast.features.store import TokenStore
from odmt_fast.models.ensemble import item_vectors, known_branches, stacked, user_vectors
from odmt_fast.models.zoo import build
from odmt_fast.retrieval import KnownUsers, Parts, Recommender

N, S, K = 14, 4, 5
SETTINGS = ModelConfig(width=8, max_seq_len=S, imt_layers=1, user_layers=1)
COLD, WORDLESS = [3, 7, 11], [7, 9]
SEQUENCES = Sequences.from_lists([[1, 2, 3], [4, 5, 6, 7], [8, 3, 9], [12, 11], [2, 14, 1]])
HISTORY = SEQUENCES.cut(None, -1)
KNOWN = EvaluationConfig(k=(1, K), metric=f"hr@{K}", ensemble="known")


def items() -> ItemTable:
    texts = tuple(None if i in WORDLESS else f"thing {i}" for i in range(1, N + 1))
    return ItemTable(tuple(f"i{i}" for i in range(1, N + 1)), texts, (None,) * N)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """Untrained, over a store of texts; items 3, 7 and 11 are in no training interaction."""
    place = tmp_path_factory.mktemp("store") / "text"
    extract(items(), "text", "hashed-words", place)
    shares = np.ones(N + 1) / (N - len(COLD))
    shares[COLD] = 0.0
    generator = torch.Generator().manual_seed(2)
    return build(SETTINGS, shares, {"text": TokenStore.open(place)}, generator=generator).eval()


@torch.no_grad()
def expected_scores(model: nn.Module, users: Sequences) -> Tensor:
    """[B, N + 1] one item and one branch at a time, in float64."""
    catalogue = model.encode_catalogue()
    states = model.encode_users(
        catalogue, torch.tensor(users.items).long(), torch.tensor(users.offsets)
    )
    scores = torch.zeros(len(users), N + 1, dtype=torch.float64)
    for item in range(1, N + 1):
        knows = {"id": item not in COLD, "text": item not in WORDLESS}
        counted = [k for k, name in enumerate(model.branches) if knows[name]] or [0, 1]
        for k in counted:
            scores[:, item] += (states[k].double() @ catalogue[k, item].double()) / len(counted)
    return scores


def test_known_is_what_was_trained_or_is_there(model: nn.Module) -> None:
    known = dict(zip(model.branches, known_branches(model), strict=True))
    assert (~known["id"]).nonzero().flatten().tolist() == [3, 11]
    assert (~known["text"]).nonzero().flatten().tolist() == [9]  # of item 7 nobody knows anything
    everywhere = stacked(("id", "sound"), {"id": torch.tensor([True, False])}, 2)
    assert everywhere.tolist() == [[True, False], [True, True]]


def test_where_all_is_known_the_vectors_are_those_of_the_mean() -> None:
    catalogue = torch.randn(3, 20, 6)
    known = torch.ones(3, 20, dtype=torch.bool)
    assert torch.equal(item_vectors(catalogue, known), item_vectors(catalogue))
    known[0, 4] = False
    two = (catalogue[1:, 4].flatten()) / 2
    assert torch.equal(item_vectors(catalogue, known)[4], torch.cat([torch.zeros(6), two]))
    assert user_vectors(catalogue).shape == (20, 18)


def test_ranks_and_lists_are_those_of_brute_force(model: nn.Module, tmp_path: Path) -> None:
    result = evaluate(model, SEQUENCES, HISTORY, KNOWN)
    plain = evaluate(model, SEQUENCES, HISTORY, KNOWN.model_copy(update={"ensemble": "mean"}))
    assert torch.equal(result.ranks[:-1], plain.ranks[:-1])  # the branches are what they were
    scores = expected_scores(model, HISTORY)
    lists = []
    for user in range(len(SEQUENCES)):
        target, past = int(SEQUENCES[user][-1]), HISTORY[user].tolist()
        others = [item for item in range(1, N + 1) if item not in past]
        above = sum(bool(scores[user, item] > scores[user, target]) for item in others)
        assert int(result.ranks[-1, user]) == 1 + above
        lists.append(sorted(others, key=lambda item: -float(scores[user, item]))[:K])
    assert not torch.equal(result.ranks[-1], plain.ranks[-1])

    users = KnownUsers(tuple("abcde"), HISTORY)
    asked = Recommender(Parts.of(model, SETTINGS, items(), users, ensemble="known"))
    for recommender in (asked, Recommender.load(asked.save(tmp_path / "bundle", users=True))):
        histories = [recommender.history(name) for name in users.names]
        found = recommender.recommend(histories, K)
        assert [[int(item.id[1:]) for item in row] for row in found] == lists
        first = found[1][0]
        shares = recommender.explain(histories[1], first.id)
        assert sum(shares.values()) == pytest.approx(first.score, abs=1e-5)
    assert recommender.explain(histories[1], "i3")["id"] == 0.0


def test_new_items_are_unknown_to_the_ids(model: nn.Module, tmp_path: Path) -> None:
    asked = Recommender(Parts.of(model, SETTINGS, items(), ensemble="known"))
    asked.add_items(ItemTable(("n1", "n2"), ("a thing", None), (None, None)))
    known = asked.parts.known_branches
    assert known is not None
    new = dict(zip(asked.parts.branches, known[:, N + 1 :].tolist(), strict=True))
    assert new == {"id": [False, True], "text": [True, True]}
    again = Recommender.load(asked.save(tmp_path / "bundle"))
    assert torch.equal(again.item_vectors, asked.item_vectors)


def test_a_ranker_that_does_not_say_what_it_knows_is_refused() -> None:
    class Other:
        branches = ("id", "text")

        def encode_catalogue(self) -> Tensor:
            return torch.ones(2, N + 1, 3)

        def encode_users(self, catalogue: Tensor, ids: Tensor, offsets: Tensor) -> Tensor:
            return catalogue[:, : len(offsets) - 1]

    with pytest.raises(ValueError, match="evaluation.ensemble='known' needs a SequentialModel"):
        evaluate(Other(), SEQUENCES, HISTORY, KNOWN)
