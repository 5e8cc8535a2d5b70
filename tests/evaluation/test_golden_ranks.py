"""The official evaluation, rank by rank and line by line, from the golden embeddings."""

from __future__ import annotations

import pytest
import torch
from golden_cases import NAMES, Golden, load
from torch import Tensor

from odmt_fast.config import EvaluationConfig, ModelConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import leave_one_out
from odmt_fast.evaluation import EvaluationResult, evaluate
from odmt_fast.official.reference import Model
from odmt_fast.official.state import prefix

OFFICIAL = EvaluationConfig(compat="official", batch_size=17)
LINES = {"te": "text", "im": "image", "id": "id", "fu": "ensemble"}


class GoldenRanker:
    """Golden item embeddings, user states of the padded reference with the golden parameters."""

    branches = ("id", "text", "image")

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        self.model = Model(
            ModelConfig.from_official(golden.args),
            golden["input/popularity"],
            golden.n_items,
            {"text": golden["input/text_features"], "image": golden["input/image_features"]},
        )
        self.model.load_state_dict(golden.group("param"))
        self.model.eval()

    def encode_catalogue(self) -> Tensor:
        return torch.stack([self.golden[f"item_embedding/{name}"] for name in self.branches])

    def encode_users(self, item_embeddings: Tensor, items: Tensor, offsets: Tensor) -> Tensor:
        steps = self.model.config.max_seq_len
        users = [items[a:b].tolist() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
        padded = torch.tensor([[0] * (steps - len(u)) + u for u in users])
        return torch.stack(
            [
                self.model.get_submodule(f"{prefix(name)}_user_encoder")(
                    item_embeddings[branch][padded], (padded != 0).float()
                )[:, -1]
                for branch, name in enumerate(self.branches)
            ]
        )


@pytest.fixture(params=NAMES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return load(request.param)


def run(golden: Golden, part: str, settings: EvaluationConfig) -> EvaluationResult:
    split = leave_one_out(
        Sequences.from_lists(golden.users),
        golden.n_items,
        golden.args.max_seq_len,
        full_history=settings.compat != "official",
    )
    return evaluate(
        GoldenRanker(golden), getattr(split, part), getattr(split, f"{part}_history"), settings
    )


@pytest.mark.parametrize("part", ["valid", "test"])
def test_official_ranks_and_metrics(golden: Golden, part: str) -> None:
    result = run(golden, part, OFFICIAL)
    expected = golden[f"rank/{part}"].long()
    row = result.names.index("ensemble")
    ranks, ties = result.ranks[row], result.ties[row]
    seen = result.repeated
    assert not ties[~seen].any()
    assert torch.equal(ranks[~seen], expected[~seen])
    # The official sort leaves the order of equal scores, here -inf, open.
    assert (ranks[seen] <= expected[seen]).all()
    assert (expected[seen] <= (ranks + ties)[seen]).all()
    for line in golden.metrics[part]["lines"]:
        short, _, hit, ndcg = line.split()
        assert result.value("hr@10", LINES[short]) * 100 == pytest.approx(float(hit), abs=1e-4)
        assert result.value("ndcg@10", LINES[short]) * 100 == pytest.approx(float(ndcg), abs=1e-4)


def test_repeated_targets_are_ranked_missed_or_skipped() -> None:
    golden = load("mixed_dims_repeats")
    ranked = run(golden, "test", EvaluationConfig(repeat_targets="rank"))
    missed = run(golden, "test", EvaluationConfig(repeat_targets="miss"))
    skipped = run(golden, "test", EvaluationConfig(repeat_targets="skip"))
    seen = ranked.repeated
    assert 0 < seen.sum() < ranked.n_users
    assert torch.equal(ranked.ranks[:, ~seen], missed.ranks[:, ~seen])
    assert (ranked.ranks[:, seen] <= missed.ranks[:, seen]).all()
    assert torch.equal(skipped.ranks, ranked.ranks[:, ~seen])
    assert skipped.n_users == int((~seen).sum())
