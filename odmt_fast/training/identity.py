"""What makes a run itself: a checkpoint can be resumed only where all of it is the same."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from odmt_fast.config import Config
from odmt_fast.training.errors import ResumeError

if TYPE_CHECKING:
    from odmt_fast.data.sequences import Sequences

# The rest of TrainingConfig (how long, where, how many threads) may change between two sessions.
_TRAINING = ("batch_size", "learning_rate", "weight_decay", "clip_norm", "precision", "seed")


def identity(config: Config, train: Sequences) -> dict[str, Any]:
    """Settings and data that decide the weights, by dotted name; JSON values."""
    model = config.model.model_dump(mode="json")
    training = config.training.model_dump(mode="json")
    return {
        **{f"model.{name}": value for name, value in model.items()},
        **{f"training.{name}": training[name] for name in _TRAINING},
        "evaluation.metric": config.evaluation.metric,
        "training users": len(train),
        "training interactions": len(train.items),
        "checksum of the training data": _checksum(train),
    }


def check_same(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises a ResumeError that names every difference."""
    changes = [
        f"{name} was {saved.get(name)!r} and is {now.get(name)!r}"
        for name in sorted({*saved, *now})
        if saved.get(name) != now.get(name)
    ]
    if changes:
        raise ResumeError(
            f"the run in training.output was made differently: {'; '.join(changes)}; restore "
            "these, choose another training.output, or train with resume=False to replace it"
        )


def _checksum(train: Sequences) -> int:
    return zlib.crc32(train.offsets.data, zlib.crc32(train.items.data))
