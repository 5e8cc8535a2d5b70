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
from odmt_fast.models.zoo import BACKBONES, MODELS
from odmt_fast.studies import BASELINES, possible, run_baselines
from odmt_fast.studies.counts import CoOccurrence, Markov, Popularity

CONFIG = Config().updated(
    {
        "model.width": 16,
        "model.max_seq_len": 6,
        "model.dropout": 0.0,
        "training.epochs": 6,
        "training.batch_size": 32,
        "training.learning_rate": 0.03,
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


def test_counted_baselines_know_a_cycle() -> None:
    results = run_baselines(leave_one_out(cycle(), 24, 6), 24, CONFIG)
    assert results["markov"].value("ndcg@5") == 1.0
    assert results["co-occurrence"].value("hr@10") > results["popularity"].value("hr@10")


@pytest.mark.parametrize("name", BASELINES[3:])
def test_a_trained_baseline_finds_the_next_item_of_a_cycle(name: str, tmp_path: Path) -> None:
    config = CONFIG.updated({"training.output": tmp_path})
    draws = torch.Generator().manual_seed(1)
    tokens = TokenTable.from_padded(torch.randn(25, 2, 16, generator=draws))
    sources, told = {"text": tokens, "image": tokens}, list[str]()
    split = leave_one_out(cycle(), 24, 6)
    (result,) = run_baselines(split, 24, config, [name], told.append, sources=sources).values()
    assert result.value("ndcg@5") > 0.6  # at random: 0.12
    assert result.names == (("id", "text", "image", "ensemble") if name == "lf" else (name,))
    assert any(f"{name}: epoch 1" in line for line in told)
    assert (tmp_path / "baselines" / name / "logs" / "epochs.csv").is_file()


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(ValueError, match="'gru' is no baseline"):
        run_baselines(leave_one_out(cycle(), 24, 6), 24, CONFIG, ["gru"])


def test_what_reads_features_waits_for_them() -> None:
    on_ids = ("popularity", "co-occurrence", "markov", "sasrec", "gru4rec", "nextitnet", "hstu")
    assert possible(()) == (*on_ids, "ligr")
    assert set(BASELINES) - set(possible(["text"])) == {"sasrec-image"}
    assert set(BASELINES) - set(possible(["audio"])) == {"sasrec-text", "sasrec-image"}
    assert possible(["text", "image"]) == BASELINES


def test_the_page_of_models_names_them_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    for name in (*MODELS, *BACKBONES, *BASELINES):
        assert f"`{name}`" in page, name


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
