"""The real model under the real loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training.toy_run import (
    N_ITEMS,
    Crash,
    CrashAfter,
    Silent,
    differences,
    state_of,
    toy_config,
    toy_split,
)

from odmt_fast import ODMT
from odmt_fast.config import Config
from odmt_fast.features.tokens import TokenTable
from odmt_fast.training import TrainingResult, load_weights, train


def build(config: Config) -> tuple[ODMT, tuple[TokenTable, ...]]:
    """A tiny model with text of 1 to 3 tokens and images of 2."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.arange(3) < torch.randint(1, 4, (N_ITEMS + 1, 1), generator=generator)
    features = (
        TokenTable.from_padded(torch.randn(N_ITEMS + 1, 3, 6, generator=generator), mask),
        TokenTable.from_padded(torch.randn(N_ITEMS + 1, 2, 4, generator=generator)),
    )
    torch.manual_seed(3)
    return ODMT(config, toy_split().popularity.tolist(), N_ITEMS, *features), features


def score(model: nn.Module) -> dict[str, float]:
    """Some number that depends on all weights."""
    return {"ndcg@10": sum(float(p.detach().abs().mean()) for p in model.parameters())}


def run(output: Path, reporter: Silent | None = None, **training: Any) -> TrainingResult:
    """Three epochs of four steps."""
    logging = {"checkpoint_steps": 2, "log_steps": 3, "tensorboard": False}
    config = toy_config(output, **logging, **training).updated(
        {"model.width": 16, "model.dropout": 0.2, "model.alpha": 4.0, "model.tau": 0.5}
    )
    model, features = build(config)
    return train(model, toy_split(), features, config, score, reporter or Silent())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_crashed_run_of_the_model_goes_on_as_if_it_had_not(
    tmp_path: Path, precision: str
) -> None:
    run(tmp_path / "whole", precision=precision)
    for steps in (3, 4):
        with pytest.raises(Crash):
            run(tmp_path / "parts", CrashAfter(steps), precision=precision)
    run(tmp_path / "parts", precision=precision, workers=1)
    assert differences(state_of(tmp_path / "whole"), state_of(tmp_path / "parts")) == []


def test_recomputing_activations_changes_no_weight(tmp_path: Path) -> None:
    run(tmp_path / "kept", epochs=1)
    run(tmp_path / "again", epochs=1, recompute=True)
    assert differences(state_of(tmp_path / "kept"), state_of(tmp_path / "again")) == []


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_model_learns_on_a_gpu(tmp_path: Path, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    options = {"device": "cuda", "precision": precision, "workers": 2, "learning_rate": 0.01}
    with pytest.raises(Crash):
        run(tmp_path, CrashAfter(3), epochs=10, **options)
    result = run(tmp_path, epochs=10, **options)
    assert result.history[-1].losses["id/ce"] < result.history[0].losses["id/ce"]


def test_the_model_learns(tmp_path: Path) -> None:
    result = run(tmp_path, epochs=10, learning_rate=0.01)
    first, last = result.history[0].losses, result.history[-1].losses
    for branch in ("id", "text", "image"):
        assert last[f"{branch}/ce"] < first[f"{branch}/ce"]
    weights = [record.losses["kd_weight"] for record in result.history]
    assert weights[:4] == sorted(weights[:4])
    assert weights[4:] == [1.0] * 6
    model, _ = build(toy_config(tmp_path).updated({"model.width": 16}))
    model.load_state_dict(load_weights(tmp_path))


def test_an_item_without_popularity_is_named_before_the_first_step(tmp_path: Path) -> None:
    config = toy_config(tmp_path)
    model, features = build(config)
    item = int(toy_split().train.items[0])
    model.log_p[item] = -torch.inf
    with pytest.raises(ValueError, match=rf"pop_prob_list\[{item}\] is 0"):
        train(model, toy_split(), features, config, score, Silent())
