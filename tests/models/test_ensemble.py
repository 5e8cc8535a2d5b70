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
from odmt_fast.models.ensemble import KnownBranches, item_vectors, stacked, user_vectors
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
    each = states.double() @ catalogue.double().transpose(1, 2)

    def speaks(item: int) -> list[int]:
        knows = {"id": item not in COLD, "text": item not in WORDLESS}
        return [k for k, name in enumerate(model.branches) if knows[name]] or [0, 1]

    level = [each[k, :, [i for i in range(1, N + 1) if k in speaks(i)]].mean(1) for k in range(2)]
    for item in range(1, N + 1):
        above = [each[k, :, item] - level[k] for k in speaks(item)]
        scores[:, item] = torch.stack(above).mean(0) + (level[0] + level[1]) / 2
    return scores


def test_known_is_what_was_trained_or_is_there(model: nn.Module) -> None:
    every = KnownBranches.of(model, model.encode_catalogue())
    known = dict(zip(model.branches, every.known, strict=True))
    assert (~known["id"]).nonzero().flatten().tolist() == [3, 11]
    assert (~known["text"]).nonzero().flatten().tolist() == [9]  # of item 7 nobody knows anything
    everywhere = stacked(("id", "sound"), {"id": torch.tensor([True, False])}, 2)
    assert everywhere.tolist() == [[True, False], [True, True]]


def test_where_all_is_known_the_vectors_are_those_of_the_mean() -> None:
    catalogue = torch.randn(3, 20, 6)
    known = KnownBranches(torch.ones(3, 20, dtype=torch.bool), torch.randn(3, 6))
    assert torch.equal(item_vectors(catalogue, known), item_vectors(catalogue))
    known.known[0, 4] = False
    c = known.centre
    expected = torch.cat([c[:1] / 3, (catalogue[1:, 4] - c[1:]) / 2 + c[1:] / 3]).flatten()
    torch.testing.assert_close(item_vectors(catalogue, known)[4], expected)
    others = torch.arange(20) != 4
    assert torch.equal(item_vectors(catalogue, known)[others], item_vectors(catalogue)[others])


def test_the_level_of_a_branch_says_nothing() -> None:
    """Adding a constant to all scores of a user in one branch moves no item past another."""
    states, catalogue = torch.randn(3, 7, 6).double(), torch.randn(3, 20, 6).double()
    known = torch.rand(3, 20) < 0.7
    known |= ~known.any(0)

    def scores(catalogue: Tensor) -> Tensor:
        centre = (catalogue * known.unsqueeze(-1)).sum(1) / known.sum(1, keepdim=True)
        vectors = item_vectors(catalogue, KnownBranches(known, centre))
        return user_vectors(states) @ vectors.t()

    moved = catalogue + torch.randn(3, 1, 6).double() * 9
    difference = scores(moved) - scores(catalogue)
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, 20))


def test_users_lie_side_by_side() -> None:
    catalogue = torch.randn(3, 20, 6)
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


def test_new_items_are_unknown_to_the_ids(model: nn.Module, tmp_path: Path) -> None:
    asked = Recommender(Parts.of(model, SETTINGS, items(), ensemble="known"))
    before = asked.item_vectors.clone()
    asked.add_items(ItemTable(("n1", "n2"), ("a thing", None), (None, None)))
    known = asked.parts.known_branches
    assert known is not None
    new = dict(zip(asked.parts.branches, known.known[:, N + 1 :].tolist(), strict=True))
    assert new == {"id": [False, True], "text": [True, True]}
    assert torch.equal(asked.item_vectors[: N + 1], before)
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
