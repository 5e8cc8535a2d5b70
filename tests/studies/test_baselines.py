"""The baselines on sequences whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from odmt_fast.config import Config
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import leave_one_out, popularity
from odmt_fast.evaluation import UserBatch, user_batches
from odmt_fast.features.tokens import TokenTable
from odmt_fast.studies import BASELINES, run_baselines
from odmt_fast.studies.counts import CoOccurrence, Markov, Popularity

CONFIG = Config().updated(
    {
        "model.width": 16,
        "model.max_seq_len": 6,
        "model.dropout": 0.0,
        "training.epochs": 12,
        "training.batch_size": 32,
        "training.learning_rate": 0.01,
        "training.weight_decay": 0.0,
        "training.device": "cpu",
        "training.tensorboard": False,
    }
)


def cycle(users: int = 120, n_items: int = 24) -> Sequences:
    """Users who walk round the catalogue, each from another item: the next item is certain."""
    g = np.random.default_rng(0)
    return Sequences.from_lists(
        [
            [(start + step) % n_items + 1 for step in range(8)]
            for start in g.integers(0, n_items, users).tolist()
        ]
    )


def one_user(inputs: list[int], target: int) -> UserBatch:
    return next(
        user_batches(Sequences.from_lists([[*inputs, target]]), Sequences.from_lists([inputs]), 1)
    )


TRAIN = Sequences.from_lists([[1, 2, 3], [1, 2, 4], [1, 2], [5, 2, 3], [3, 1]])


def test_popularity_scores_are_the_shares() -> None:
    shares = popularity(TRAIN, 5)
    scores = Popularity(TRAIN, shares).score(one_user([1], 2))
    torch.testing.assert_close(scores[0], torch.from_numpy(shares.copy()))


def test_markov_counts_what_followed() -> None:
    scores = Markov(TRAIN, popularity(TRAIN, 5)).score(one_user([5, 2], 3))[0]
    # After 2 came 3 twice and 4 once; 1 -> 5 across two users is no transition.
    torch.testing.assert_close(
        scores[1:].round(decimals=6), torch.tensor([0.0, 0, 2, 1, 0], dtype=torch.float64)
    )
    assert scores[1] > scores[5]  # both unseen: the more popular first


def test_co_occurrence_sums_cosines_over_distinct_users() -> None:
    repeated = Sequences.from_lists([[1, 2, 1], [1, 3], [2, 3, 2]])
    scores = CoOccurrence(repeated, popularity(repeated, 3)).score(one_user([1, 2], 3))[0]
    # Each item has two users and shares one with each other item: every cosine is 1 / 2.
    torch.testing.assert_close(
        scores[1:].round(decimals=6), torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64)
    )


def test_baselines_find_the_next_item_of_a_cycle(tmp_path: Path) -> None:
    split = leave_one_out(cycle(), 24, 6)
    config = CONFIG.updated({"training.output": tmp_path})
    draws = torch.Generator().manual_seed(1)
    tokens = TokenTable.from_padded(torch.randn(25, 2, 4, generator=draws))
    told: list[str] = []
    results = run_baselines(
        split, 24, config, BASELINES, told.append, sources={"text": tokens, "image": tokens}
    )
    assert tuple(results) == BASELINES
    assert results["markov"].value("ndcg@5") == 1.0
    for name in ("sasrec", "gru4rec", "ef", "lf"):
        assert results[name].value("ndcg@5") > 0.8, name
    assert results["sasrec"].names == ("sasrec",)
    assert results["lf"].names == ("id", "text", "image", "ensemble")
    assert results["co-occurrence"].value("hr@10") > results["popularity"].value("hr@10")
    assert any("sasrec: epoch 1" in line for line in told)
    assert (tmp_path / "baselines" / "ef" / "logs" / "epochs.csv").is_file()
    with pytest.raises(ValueError, match="'gru' is no baseline"):
        run_baselines(split, 24, config, ["gru"])


def test_a_baseline_draws_from_its_seed_alone_and_goes_on(tmp_path: Path) -> None:
    split = leave_one_out(cycle(), 24, 6)
    config = CONFIG.updated({"training.epochs": 2, "model.dropout": 0.3})
    found = []
    for place, options in (("a", {}), ("b", {}), ("b", {}), ("c", {"training.seed": 9})):
        torch.manual_seed(len(found))
        run = config.updated({"training.output": tmp_path / place, **options})
        found.append(run_baselines(split, 24, run, ["sasrec"])["sasrec"].ranks)
    assert torch.equal(found[0], found[1]) and torch.equal(found[1], found[2])
    assert not torch.equal(found[0], found[3])
