"""The sparse ID table: rows that are read are AdamW's, the others stand still; runs go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training.toy_run import (
    N_ITEMS,
    Crash,
    CrashAfter,
    Silent,
    differences,
    state_of,
    toy_config,
    toy_features,
    toy_split,
)

from odmt_fast.config import ModelConfig, TrainingConfig
from odmt_fast.models.zoo import build
from odmt_fast.processes import Processes
from odmt_fast.training import train
from odmt_fast.training.distributed import averaging
from odmt_fast.training.row_adamw import RowAdamW, with_dense_values
from odmt_fast.training.step import adamw

SETTINGS = TrainingConfig(learning_rate=0.1, weight_decay=0.3)
READ = ([1, 2], [2, 4], [4, 1], [2, 5])
"""Rows that four steps read."""


def table() -> nn.Embedding:
    made = nn.Embedding(6, 3, padding_idx=0, sparse=True, dtype=torch.float64)
    made.weight.data = torch.linspace(-1, 1, 18, dtype=torch.float64).view(6, 3)
    return made


def gradient(weight: Tensor, rows: list[int]) -> Tensor:
    """Of the loss of a step with respect to the rows it reads."""
    return 2 * weight[rows] * torch.tensor(rows, dtype=torch.float64)[:, None]


def test_a_row_is_an_adamw_of_its_own_over_the_steps_that_read_it() -> None:
    rows = table()
    optimizer = adamw(rows, SETTINGS)
    assert isinstance(optimizer, RowAdamW)
    for read in READ:
        optimizer.zero_grad()
        rows(torch.tensor(read)).backward(gradient(rows.weight.detach(), read))
        with_dense_values([rows.weight])
        optimizer.step()
    start = table().weight.detach()
    for row in range(6):
        alone = nn.Parameter(start[row : row + 1].clone())
        adam = torch.optim.AdamW([alone], lr=0.1, weight_decay=0.3)
        for read in READ:
            if row in read:
                alone.grad = gradient(alone.detach().expand(6, 3), [row])
                adam.step()
        torch.testing.assert_close(rows.weight[row : row + 1].detach(), alone.detach())
    assert torch.equal(rows.weight[3], start[3]), "no decay where nothing is read"


def test_a_row_of_every_step_and_what_is_not_sparse_learn_as_in_the_dense_model() -> None:
    both = []
    for sparse in (True, False):
        model = nn.Sequential(nn.Embedding(4, 3, sparse=sparse), nn.Linear(3, 2)).double()
        for parameter in model.parameters():
            parameter.data = torch.linspace(-1, 1, parameter.numel()).double().view_as(parameter)
        optimizer = adamw(model, SETTINGS)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.tensor([0, 1, 2, 3, 1])).square().sum().backward()
            norm = nn.utils.clip_grad_norm_(with_dense_values(model.parameters()), 0.7)
            optimizer.step()
        both.append([norm, *model.parameters()])
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other)


def run(output: Path, reporter: Silent | None = None) -> None:
    """Two epochs of the model of IDs."""
    config = toy_config(output, epochs=2, checkpoint_steps=2, tensorboard=False).updated(
        {"model.id_table": "sparse", "model.name": "id", "model.width": 8, "model.dropout": 0.2}
    )
    split = toy_split()
    model = build(config, split.popularity, generator=torch.Generator().manual_seed(1))

    def score(model: nn.Module) -> dict[str, float]:
        return {"ndcg@10": float(next(model.parameters()).detach().abs().mean())}

    train(model, split, (), config, score, reporter or Silent())


def test_a_crashed_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    with pytest.raises(Crash):
        run(tmp_path / "parts", CrashAfter(3))
    run(tmp_path / "parts")
    assert differences(state_of(tmp_path / "whole"), state_of(tmp_path / "parts")) == []


def test_what_does_not_go_with_it_is_refused() -> None:
    model = build(ModelConfig(name="id", id_table="sparse"), torch.ones(N_ITEMS + 1) / N_ITEMS)
    with pytest.raises(ValueError, match="fp16 does not go with model.id_table=sparse"):
        adamw(model, SETTINGS.model_copy(update={"precision": "fp16"}))
    with pytest.raises(ValueError, match="trained by one process, and there are 2"):
        averaging(model, Processes(0, 2))
    config = ModelConfig(name="text", id_table="sparse")
    with pytest.raises(ValueError, match="model.name=text has no IDs"):
        build(config, torch.ones(N_ITEMS + 1) / N_ITEMS, {"text": toy_features()[0]})
    with pytest.raises(ValueError, match="no closure"):
        adamw(model, SETTINGS).step(lambda: 0.0)
