"""Metrics by hand, the popularity yardstick, slices, and what a bad model or split is told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from odmt_fast.config import EvaluationConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.evaluation import (
    by_input_length,
    by_popularity,
    evaluate,
    evaluate_scores,
    user_batches,
)
from odmt_fast.evaluation.metrics import hit_rate, ndcg


class Table(nn.Module):
    """A ranker whose user state is the embedding of the last input."""

    branches = ("id", "text")

    def __init__(self, n_items: int = 20) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.items = nn.Parameter(torch.randn(2, n_items + 1, 4, generator=g))
        self.modes: list[bool] = []

    def encode_catalogue(self) -> Tensor:
        self.modes.append(self.training)
        return self.items

    def encode_users(self, item_embeddings: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        return item_embeddings[:, items[offsets[1:] - 1]]


SEQUENCES = Sequences.from_lists([[1, 2, 3], [4, 5, 6, 7], [8, 9], [2, 3, 2]])
HISTORY = Sequences.from_lists([[1, 2], [10, 4, 5, 6], [8], [2, 3]])


def test_metrics_of_one_target_by_hand() -> None:
    ranks, ties = torch.tensor([1, 3, 11]), torch.zeros(3, dtype=torch.int64)
    assert hit_rate(ranks, ties, 10).tolist() == [1, 1, 0]
    assert ndcg(ranks, ties, 10).tolist() == pytest.approx([1, 0.5, 0])
    assert hit_rate(ranks, ties, 2).tolist() == [1, 0, 0]


def test_ties_share_the_places_they_fill() -> None:
    # Four equal scores on the places 9..12: half of them are within 10.
    ranks, ties = torch.tensor([9]), torch.tensor([3])
    assert hit_rate(ranks, ties, 10).item() == pytest.approx(0.5)
    expected = (1 / math.log2(10) + 1 / math.log2(11)) / 4
    assert ndcg(ranks, ties, 10).item() == pytest.approx(expected)


def test_a_constant_model_gains_nothing_from_its_ties() -> None:
    result = evaluate_scores(
        "constant", lambda batch: torch.zeros(len(batch.targets), 21), SEQUENCES, HISTORY, 20
    )
    # 20 items less the history; a repeated target stays in the running.
    places = torch.tensor([18, 16, 19, 19])
    assert torch.equal(result.ties[0] + 1, places)
    assert result.value("hr@5") == pytest.approx((5 / places).mean().item())


def test_batches_hold_inputs_target_and_history() -> None:
    first, second = user_batches(SEQUENCES, HISTORY, 3)
    assert first.items.tolist() == [1, 2, 4, 5, 6, 8]
    assert first.offsets.tolist() == [0, 2, 5, 6]
    assert first.targets.tolist() == [3, 7, 9]
    assert first.history.tolist() == [1, 2, 10, 4, 5, 6, 8]
    assert first.history_offsets.tolist() == [0, 2, 6, 7]
    assert not first.repeated.any()
    assert (second.items.tolist(), second.targets.tolist()) == ([2, 3], [2])
    assert second.repeated.tolist() == [True]


def test_ranks_do_not_depend_on_the_batch_size() -> None:
    model = Table()
    whole = evaluate(model, SEQUENCES, HISTORY, EvaluationConfig(batch_size=4))
    single = evaluate(model, SEQUENCES, HISTORY, EvaluationConfig(batch_size=1))
    assert torch.equal(whole.ranks, single.ranks)
    assert whole.names == ("id", "text", "ensemble")


def test_evaluation_runs_in_eval_mode_and_restores_training() -> None:
    model = Table().train()
    evaluate(model, SEQUENCES, HISTORY)
    assert model.modes == [False]
    assert model.training


def test_popularity_is_ranked_beside_the_model() -> None:
    popularity = np.arange(21) / 210
    popularity[0] = 1.0
    result = evaluate(Table(), SEQUENCES, HISTORY, popularity=popularity)
    assert result.names[-1] == "popularity"
    # Item 20 is the most popular and nobody has it: item i stands on place 21 - i, less the
    # history above it.
    assert result.ranks[-1].tolist() == [18, 13, 12, 18]


def test_result_renders_as_table_and_json() -> None:
    result = evaluate(Table(), SEQUENCES, HISTORY, EvaluationConfig(k=(1, 5), metric="hr@5"))
    header, rows = result.table()
    assert header == ("", "HR@1", "HR@5", "NDCG@1", "NDCG@5")
    assert [row[0] for row in rows] == ["id", "text", "ensemble"]
    values = json.loads(json.dumps(result.to_dict()))
    assert values["users"] == 4
    assert values["metrics"]["ensemble"]["hr@5"] == result.value("hr@5")
    assert result.flat()["id/ndcg@1"] == result.value("ndcg@1", "id")
    with pytest.raises(ValueError, match="hr@7"):
        result.value("hr@7")
    with pytest.raises(ValueError, match="'fusion' was not ranked"):
        result.value("hr@5", "fusion")


def test_slices_part_the_users() -> None:
    result = evaluate(Table(), SEQUENCES, HISTORY)
    for groups in (by_popularity(result, np.arange(21), 2), by_input_length(result, 3)):
        assert sum(part.n_users for part in groups.values()) == 4
        mean = sum(part.value("ndcg@10") * part.n_users for part in groups.values()) / 4
        assert mean == pytest.approx(result.value("ndcg@10"))
    rare, popular = by_popularity(result, np.arange(21), 2).values()
    assert rare.targets.max() < popular.targets.min()


def test_nan_is_named() -> None:
    model = Table()
    with torch.no_grad():
        model.items[1, 3] = torch.nan
    with pytest.raises(ValueError, match="item embeddings of text hold NaN"):
        evaluate(model, SEQUENCES, HISTORY)


def test_users_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="history has 1 users, sequences 4"):
        evaluate(Table(), SEQUENCES, Sequences.from_lists([[1]]))
    with pytest.raises(ValueError, match="user 1 has 1 items"):
        evaluate(Table(), Sequences.from_lists([[1, 2], [3]]), Sequences.from_lists([[1], [2]]))
    with pytest.raises(ValueError, match="no user"):
        evaluate(Table(), Sequences.from_lists([]), Sequences.from_lists([]))
