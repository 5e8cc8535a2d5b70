"""The engine itself ranks the golden targets as the official code does."""

from __future__ import annotations

import pytest
import torch
from golden_cases import NAMES, load

from odmt_fast import ODMT
from odmt_fast.config import EvaluationConfig
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import leave_one_out
from odmt_fast.evaluation import evaluate
from odmt_fast.features.tokens import TokenTable


@pytest.mark.parametrize("name", NAMES)
def test_engine_gives_the_official_ranks(name: str) -> None:
    golden = load(name)
    model = ODMT(
        golden.args,
        golden["input/popularity"],
        golden.n_items,
        TokenTable.from_padded(golden["input/text_features"], golden["input/text_mask"]),
        TokenTable.from_padded(golden["input/image_features"]),
    )
    model.load_state_dict(golden.group("param"))
    split = leave_one_out(
        Sequences.from_lists(golden.users),
        golden.n_items,
        golden.args.max_seq_len,
        full_history=False,
    )
    result = evaluate(model, split.test, split.test_history, EvaluationConfig(compat="official"))
    expected = golden["rank/test"].long()
    ensemble = result.names.index("ensemble")
    ranks, ties = result.ranks[ensemble], result.ties[ensemble]
    assert torch.equal(ranks[~result.repeated], expected[~result.repeated])
    assert (ranks <= expected).all()
    assert (expected <= ranks + ties).all()
