"""A search chooses what its file says, and what it cannot mean is refused by name."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from odmt_fast.config import Config
from odmt_fast.studies.space import DEFAULT, check_space, space_of, suggest


def test_the_usual_space_is_one() -> None:
    check_space(DEFAULT, Config())
    whole = space_of(DEFAULT, Config(), {})
    assert whole == DEFAULT
    ids = Config().updated({"model.name": "id"})
    assert not {"model.alpha", "model.tau", "model.width"} & set(
        space_of(DEFAULT, ids, {"model.width": 64})
    )


def test_values_are_of_their_range() -> None:
    space = {
        "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
        "training.batch_size": {"low": 16, "high": 256, "log": True},
        "evaluation.k": [[5], [5, 10]],
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    tried = [suggest(study.ask(), space) for _ in range(40)]
    assert {round(10 * values["model.dropout"], 6) for values in tried} == set(range(6))
    sizes = [values["training.batch_size"] for values in tried]
    assert all(type(size) is int and 16 <= size <= 256 for size in sizes)
    assert sorted(map(str, {str(values["evaluation.k"]) for values in tried})) == ["[5, 10]", "[5]"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "search must hold settings"),
        ([], "search must hold settings"),
        ({"model.wdth": [8]}, "'model.wdth' is not a setting"),
        ({"model.width": 8}, "must be a list of values or a range"),
        ({"model.width": []}, "must be a list of values or a range"),
        ({"model.dropout": {"low": 0.1}}, "must read {low: 0.1, high: 1.0}"),
        ({"model.dropout": {"low": 0.1, "high": 0.2, "steps": 1}}, "must read"),
        ({"model.dropout": {"low": 0.1, "high": 0.2, "step": 0.1, "log": True}}, "must read"),
        ({"model.dropout": {"low": 0.2, "high": 0.1}}, "low=0.2 must be a number below high=0.1"),
        ({"model.dropout": {"low": 0.0, "high": 0.1, "log": True}}, "above 0 for log"),
        ({"model.dropout": {"low": 0.0, "high": 1.5}}, "less than 1"),
        ({"training.seed": [1, 2]}, "a better seed is no better setting"),
        ({"training.epochs": [1, 2]}, "the same budget"),
    ],
)
def test_what_cannot_be_meant_is_refused(space: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        check_space(space, Config())
