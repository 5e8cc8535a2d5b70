"""The baselines on sequences whose answers are known, and SASRec against its own loss law."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from odmt_fast.config import Config
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import leave_one_out, popularity
from odmt_fast.evaluation import UserBatch, evaluate, user_batches
from odmt_fast.studies import BASELINES, SASRec, run_baselines
from odmt_fast.studies.counts import CoOccurrence, Markov, Popularity
from odmt_fast.studies.sasrec import Layer, train_sasrec

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


def test_baselines_find_the_next_item_of_a_cycle() -> None:
    split = leave_one_out(cycle(), 24, 6)
    told: list[str] = []
    results = run_baselines(split, 24, CONFIG, progress=told.append)
    assert tuple(results) == BASELINES
    assert results["markov"].value("ndcg@5") == 1.0
    assert results["sasrec"].value("ndcg@5") > 0.9
    assert results["co-occurrence"].value("hr@10") > results["popularity"].value("hr@10")
    assert any("sasrec: epoch 1" in line for line in told)
    with pytest.raises(ValueError, match="'gru' is no baseline"):
        run_baselines(split, 24, CONFIG, ["gru"])


def test_sasrec_loss_equals_the_official_columns_written_out() -> None:
    torch.manual_seed(0)
    model = SASRec(CONFIG.model, 9).eval()
    users = [[1, 2, 3], [2, 4, 2, 5], [6, 1]]
    log_p = torch.rand(10).log()
    columns = [item for user in users for item in user]
    losses, seen = [], 0
    for user in users:
        inputs = model.items(torch.tensor(user[:-1]))[None]
        states = model(inputs, torch.tensor([len(user) - 1]))[0]
        for step, state in enumerate(states):
            target = seen + step + 1
            logits = model.items.weight[columns] @ state - log_p[columns]
            own = torch.tensor([c in user and j != target for j, c in enumerate(columns)])
            losses.append(
                F.cross_entropy(logits.masked_fill(own, -1e4)[None], torch.tensor([target]))
            )
        seen += len(user)
    got = model.loss([torch.tensor(user) for user in users], log_p)
    torch.testing.assert_close(got, torch.stack(losses).mean())


def test_sasrec_does_not_read_the_future_or_the_padding() -> None:
    model = SASRec(CONFIG.model, 9).eval()
    alone = Sequences.from_lists([[1, 2, 3]])
    together = Sequences.from_lists([[1, 2, 3], [1, 2, 3, 4, 5, 6, 7]])
    history = Sequences.from_lists([[1], [1]])
    first = evaluate(model, alone, Sequences.from_lists([[1]]))
    second = evaluate(model, together, history)
    assert first.names == ("sasrec",)
    assert first.ranks[0, 0] == second.ranks[0, 0]
    x = model.items(torch.tensor([[1, 2, 3]]))
    full = model(x, torch.tensor([3]))
    changed = x.clone()
    changed[0, 2] = 1.0
    torch.testing.assert_close(model(changed, torch.tensor([3]))[:, :2], full[:, :2])


def test_a_layer_of_sasrec_is_torchs_encoder_layer() -> None:
    torch.manual_seed(0)
    theirs = torch.nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, batch_first=True)
    ours = Layer(16, 2)
    names = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "out.",
        "linear1.": "up.",
        "linear2.": "down.",
        "norm1.": "attention_norm.",
        "norm2.": "norm.",
    }
    state = {
        our + key.removeprefix(their): value
        for key, value in theirs.state_dict().items()
        for their, our in names.items()
        if key.startswith(their)
    }
    ours.load_state_dict(state)
    x, future = torch.randn(3, 5, 16), torch.ones(5, 5, dtype=torch.bool).triu(1)
    torch.testing.assert_close(ours(x, future, lambda y: y), theirs(x, src_mask=future))


def test_sasrec_draws_from_its_seed_alone() -> None:
    split = leave_one_out(cycle(), 24, 6)
    config = CONFIG.updated({"training.epochs": 2, "model.dropout": 0.3})
    weights = []
    for before in (1, 2):
        torch.manual_seed(before)
        state = torch.get_rng_state()
        weights.append(train_sasrec(split, 24, config).state_dict())
        assert torch.equal(torch.get_rng_state(), state)
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    other = train_sasrec(split, 24, config.updated({"training.seed": 9})).state_dict()
    assert not torch.equal(other["items.weight"], weights[0]["items.weight"])
