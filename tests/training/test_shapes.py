"""Padded batches in training: when, that they end in the same weights, and resume to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training.toy_run import (
    Crash,
    CrashAfter,
    ToyModel,
    differences,
    state_of,
    toy_config,
    toy_features,
    toy_split,
    toy_train,
)

from odmt_fast.batch.capacities import Capacities
from odmt_fast.batch.collate import Collator
from odmt_fast.config import ModelConfig
from odmt_fast.models.losses.softmax import Softmax
from odmt_fast.models.zoo import build
from odmt_fast.training import run, shapes
from odmt_fast.training.shapes import chosen_capacities

TWO_EPOCHS = {"epochs": 2, "precision": "fp32", "learning_rate": 1e-3, "tensorboard": False}
CPU = torch.device("cpu")


def model_of(name: str, dropout: float) -> nn.Module:
    config = ModelConfig(name=name, width=16, max_seq_len=4, dropout=dropout)
    (features,) = toy_features()
    generator = torch.Generator().manual_seed(3)
    return build(config, toy_split().popularity, {"text": features}, generator=generator)


def chosen(model: nn.Module, device: torch.device = CPU, **training: Any) -> Capacities | None:
    sources = getattr(model, "sources", toy_features())
    collate = Collator(toy_split().train, 4, sources)
    config = toy_config(Path(), **{"precision": "bf16", **training})
    return chosen_capacities(model, collate, sources, config, device)


def test_padded_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("odmt", 0.1)
    found = chosen(model)
    assert found is not None and found == chosen(model) and found.users == 3
    assert found != chosen(model, seed=2)
    assert chosen(model, precision="fp32") is None
    gpu = torch.device("cuda", 0)
    assert chosen(model, gpu, precision="fp32") == found  # captured
    assert chosen(model, gpu, capture="off") is None
    assert chosen(model, batch_size=64) is None  # no batch is full
    monkeypatch.setattr(shapes, "_MOST_WORK", 1e5)
    assert chosen(model) is None
    assert chosen(model, gpu) == found


def test_a_loss_that_would_count_the_dummies_is_given_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert chosen(ToyModel()) is None
    monkeypatch.setattr(Softmax, "weighs_rows", False)
    assert chosen(model_of("id", 0.1)) is None


def padded_in_fp32(*arguments: Any) -> Capacities | None:
    *others, config, device, processes = arguments
    config = config.updated({"training.precision": "bf16"})
    return chosen_capacities(*others, config, device, processes)


# Several branches draw the noise of their users by rows, which dummies move.
@pytest.mark.parametrize(("name", "dropout"), [("id", 0.2), ("ef", 0.2), ("odmt", 0.0)])
def test_two_epochs_end_in_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, dropout: float
) -> None:
    weights: list[dict[str, Tensor]] = []
    shapes_seen: list[set[int]] = []
    for number, choose in enumerate((padded_in_fp32, lambda *_: None)):
        monkeypatch.setattr(run, "chosen_capacities", choose)
        model, rows = model_of(name, dropout), list[int]()
        model.register_forward_pre_hook(lambda _, a, rows=rows: rows.append(len(a[0].targets)))
        features = () if name == "id" else toy_features()
        run.train(
            model,
            toy_split(),
            features,
            toy_config(tmp_path / str(number), **TWO_EPOCHS),
            lambda _: {"ndcg@10": 0.0},
        )
        weights.append({n: p.detach().clone() for n, p in model.named_parameters()})
        shapes_seen.append(set(rows))
    padded, plain = weights
    assert shapes_seen[0] != shapes_seen[1]
    # Sums over other many columns end in other last bits, which AdamW divides by their size.
    for key, value in plain.items():
        assert (padded[key] - value).abs().max() <= 1e-5, key


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    settings = {"precision": "bf16", "epochs": 2}
    toy_train(whole, model=model_of("odmt", 0.2), **settings)
    with pytest.raises(Crash):
        toy_train(parted, model=model_of("odmt", 0.2), reporter=CrashAfter(6), **settings)
    toy_train(parted, model=model_of("odmt", 0.2), **settings)
    assert differences(state_of(whole), state_of(parted)) == []
