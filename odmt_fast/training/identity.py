"""What a run is made of: settings and data that decide its weights and its scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from odmt_fast.config import Config
from odmt_fast.storage import Digest
from odmt_fast.training.errors import ResumeError

if TYPE_CHECKING:
    from odmt_fast.data.sequences import Sequences
    from odmt_fast.data.split import Split

# The rest of TrainingConfig (how long, where, how many threads) may change between two sessions.
_TRAINING = (
    "negatives",
    "learning_rate",
    "weight_decay",
    "clip_norm",
    "precision",
    "compile",
    "float8",
    "seed",
)
_EVALUATION = ("metric", "valid_targets")
"""What chooses the best epoch."""
OVERRIDABLE = ("learning_rate", "weight_decay", "clip_norm", "precision")
"""Settings of ``training`` that a run may go on with when they were given by ``--override``."""


def identity(
    config: Config, split: Split, inputs: Mapping[str, str], processes: int = 1
) -> dict[str, Any]:
    """Settings and data by name; JSON values.

    The users of a step belong to it, not how many processes share them: a run goes on with another
    number of processes where ``training.batch_size`` makes up for it, in the same order.

    Args:
        config: of the run.
        split: what is trained on and ranked.
        inputs: digests of what else the run is made of (catalogue, token stores), by name.
        processes: that train together.
    """
    return {
        **_settings(config),
        "training.batch_size x processes": config.training.batch_size * processes,
        **data_identity(split, inputs),
    }


def _settings(config: Config) -> dict[str, Any]:
    model = config.model.model_dump(mode="json")
    training = config.training.model_dump(mode="json")
    return {
        **{f"model.{name}": value for name, value in model.items()},
        **{f"training.{name}": training[name] for name in _TRAINING},
        **{f"evaluation.{name}": getattr(config.evaluation, name) for name in _EVALUATION},
    }


def data_identity(split: Split, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The part of `identity` that is no setting."""
    return {
        "training users": len(split.train),
        "training interactions": len(split.train.items),
        "training sequences": _digest(split.train),
        "validation targets": _digest_of_targets(split.valid),
        "test targets": _digest_of_targets(split.test),
        **inputs,
    }


def check_same(
    saved: Mapping[str, Any], now: Mapping[str, Any], overrides: Iterable[str] = ()
) -> list[str]:
    """Compares the identity a run was saved with and the present one.

    A setting that the checkpoint does not know came later, and its default is what was done before.

    Args:
        saved: of the checkpoint.
        now: of this session.
        overrides: names of settings that may differ.

    Returns:
        The differences among `overrides`, in words.

    Raises:
        ResumeError: names every other difference.
    """
    saved = {**_settings(Config()), **saved}
    allowed = set(overrides)
    names = [name for name in sorted({*saved, *now}) if saved.get(name) != now.get(name)]
    refused = [name for name in names if name not in allowed]
    if refused:
        changes = "; ".join(_change(name, saved, now) for name in refused)
        remedy = "restore these, choose another --output, or train with --fresh to replace the run"
        settings = [name for name in refused if name.removeprefix("training.") in OVERRIDABLE]
        if settings:
            remedy += f" (--override {settings[0]}=... goes on with another value)"
        raise ResumeError(f"the run in training.output was made differently: {changes}; {remedy}")
    return [_change(name, saved, now) for name in names]


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs among the names that both have, in words."""
    return [_change(name, saved, now) for name in now if name in saved and saved[name] != now[name]]


def _change(name: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    was, value = saved.get(name), now.get(name)
    if name.startswith(("model.", "training.", "evaluation.")) or not isinstance(was, str):
        return f"{name} was {was!r} and is {value!r}"
    return f"{name} differ (digest {was[:8]}, now {str(value)[:8]})"


def _digest(sequences: Sequences) -> str:
    return Digest().add_array(sequences.offsets).add_array(sequences.items).hex


def _digest_of_targets(sequences: Sequences) -> str:
    return Digest().add_array(np.asarray(sequences.items[sequences.offsets[1:] - 1])).hex
