"""What a search may choose: a range or a list for each setting, as people write it in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from odmt_fast.config import Config

if TYPE_CHECKING:
    from optuna import Trial

Space = Mapping[str, Any]
"""Dotted setting -> a list of values, or ``{low, high}`` with ``log: true`` or ``step``."""

DEFAULT: Space = {
    "training.learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
    "training.weight_decay": [0.0, 0.01, 0.1],
    "model.width": [32, 64, 128],
    "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
    "model.item_dropout": {"low": 0.0, "high": 0.4, "step": 0.1},
    "model.alpha": [0.02, 20.0, 100.0],
    "model.tau": {"low": 0.1, "high": 1.0, "step": 0.1},
}
_DISTILLATION = ("model.alpha", "model.tau")
_RANGE = {"low", "high", "log", "step"}
_KEPT = {
    "training.output": "every trial has a folder of its own in that of the search",
    "training.seed": "a better seed is no better setting; give one in 'base'",
    "training.epochs": "all trials have the same budget, --epochs",
    "training.patience": "all trials have the same budget, --epochs",
    "data.path": "name the dataset in 'base' or with --data",
    "evaluation.metric": "it is what the trials are compared by; set it in 'base'",
    "evaluation.k": "it is what the trials are compared by; set it in 'base'",
    "evaluation.repeat_targets": "it is what the trials are compared by; set it in 'base'",
    "evaluation.compat": "it is what the trials are compared by; set it in 'base'",
}


def check_space(space: Any, base: Config) -> None:
    """Raises a ValueError that names what is no setting, no range, or not to be searched."""
    if not isinstance(space, dict) or not space:
        raise ValueError(
            "search must hold settings, such as 'model.dropout: {low: 0.0, high: 0.5}'"
        )
    for name, choice in space.items():
        if name in _KEPT:
            raise ValueError(f"search has {name}: {_KEPT[name]}")
        if isinstance(choice, dict):
            found, whole = choice.keys(), {"low", "high"} <= choice.keys()
            if not whole or found - _RANGE or {"log", "step"} <= found:
                raise ValueError(
                    f"search {name}={choice} must read {{low: 0.1, high: 1.0}}, with log: true or "
                    "step: 0.1 if wanted"
                )
            tried = [choice["low"], choice["high"]]
            numbers = all(type(value) in (int, float) for value in tried)
            if not numbers or not tried[0] < tried[1] or (choice.get("log") and tried[0] <= 0):
                raise ValueError(
                    f"search {name}: low={tried[0]!r} must be a number below high={tried[1]!r}"
                    f"{', and above 0 for log' if choice.get('log') else ''}"
                )
        elif isinstance(choice, list) and choice:
            tried = choice
        else:
            raise ValueError(f"search {name}={choice!r} must be a list of values or a range")
        for value in tried:
            base.updated({name: value})


def space_of(space: Space, config: Config, fixed: Mapping[str, Any]) -> Space:
    """The part of `space` that a row of its own settings leaves open and that its model reads."""
    distils = config.model.name == "odmt" and config.features.modalities != ()
    return {
        name: choice
        for name, choice in space.items()
        if name not in fixed and (distils or name not in _DISTILLATION)
    }


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """What `trial` tries: a value for every setting."""
    return {name: _suggest(trial, name, choice) for name, choice in space.items()}


def _suggest(trial: Trial, name: str, choice: Any) -> Any:
    if isinstance(choice, list):
        # By place: a value may be a list, which the storage cannot hold.
        return choice[trial.suggest_categorical(name, list(range(len(choice))))]
    low, high, log = choice["low"], choice["high"], choice.get("log", False)
    if type(low) is int and type(high) is int:
        return trial.suggest_int(name, low, high, step=choice.get("step", 1), log=log)
    value = trial.suggest_float(name, low, high, step=choice.get("step"), log=log)
    return float(f"{value:.4g}")
