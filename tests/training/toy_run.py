"""A training run small enough to be killed and compared many times."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from odmt_fast.batch.batch import Batch
from odmt_fast.config import Config
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import Split, leave_one_out
from odmt_fast.features.tokens import TokenTable
from odmt_fast.models.losses.distilled import ramp_up
from odmt_fast.training.checkpoint import BEST, LAST, load
from odmt_fast.training.progress import EpochRecord
from odmt_fast.training.report import StepReport
from odmt_fast.training.run import TrainingResult, train

N_ITEMS = 30
WIDTH = 8
TIMES = {"seconds", "samples_per_second"}

STEPS = 4  # of an epoch: 12 users with a row, 3 a batch


class ToyModel(nn.Module):
    """Two branches that score a batch's items; dropout makes the batch's noise matter."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.table = nn.Parameter(torch.randn(N_ITEMS + 1, WIDTH, generator=generator) / 3)
        self.text = nn.Parameter(torch.randn(WIDTH, 4, generator=generator) / 3)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Cross entropies over the distinct items and a distillation in both directions."""
        tokens = batch.features[0]
        owner = torch.repeat_interleave(torch.arange(len(tokens.lengths)), tokens.lengths)
        pooled = torch.zeros(len(tokens.lengths), 4).index_add(0, owner, tokens.values)
        assert batch.noise is not None
        generator = torch.Generator().manual_seed(int(batch.noise))
        scores = []
        for items in (self.table[batch.items], torch.nn.functional.linear(pooled, self.text)):
            kept = torch.rand(items.shape, generator=generator) >= 0.2
            states = (items * kept / 0.8 if self.training else items)[batch.inputs]
            scores.append((states @ items.T).float())
        id_ce, text_ce = (nn.functional.cross_entropy(z, batch.targets) for z in scores)
        text_kd, id_kd = (
            nn.functional.cross_entropy(student, teacher.softmax(-1))
            for student, teacher in (scores[::-1], scores)
        )
        weight = ramp_up(epoch, 4)
        return {
            "loss": id_ce + text_ce + weight * (text_kd + id_kd),
            "id/ce": id_ce,
            "text/ce": text_ce,
            "text/kd": text_kd,
            "id/kd": id_kd,
            "kd_weight": torch.tensor(weight),
        }


def evaluate(model: nn.Module) -> dict[str, float]:
    """A score that is better in some epochs only, and draws random numbers on the way."""
    total = float(next(model.parameters()).detach().sum()) + 0.0 * float(torch.rand(()))
    return {"ensemble/ndcg@10": total % 0.1, "id/ndcg@10": total}


def scripted(scores: list[float]) -> Callable[[nn.Module], dict[str, float]]:
    """A validation that returns `scores` one after the other."""
    remaining = iter(scores)
    return lambda model: {"ndcg@10": next(remaining)}


def toy_split() -> Split:
    """13 users, one of them without a training row."""
    draws = np.random.default_rng(5)
    lists = [draws.integers(1, N_ITEMS + 1, n).tolist() for n in (4, 9, 5, 7, 6, 8) * 2]
    return leave_one_out(Sequences.from_lists([*lists, [1, 2, 3]]), N_ITEMS, 4)


def toy_features() -> tuple[TokenTable]:
    """One modality of two tokens an item."""
    generator = torch.Generator().manual_seed(9)
    return (TokenTable.from_padded(torch.randn(N_ITEMS + 1, 2, 4, generator=generator)),)


def toy_config(output: Path, **training: Any) -> Config:
    """5 steps an epoch, 3 epochs; a name with a dot is of another section."""
    settings = {"batch_size": 3, "epochs": 3, "learning_rate": 0.02, "device": "cpu", **training}
    return Config().updated(
        {
            "model.max_seq_len": 4,
            "training.output": output,
            **{n if "." in n else f"training.{n}": value for n, value in settings.items()},
        }
    )


class Silent:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.steps: list[StepReport] = []
        self.epochs: list[tuple[int, bool]] = []
        self.closed = 0

    def message(self, text: str) -> None:
        self.messages.append(text)

    def step(self, report: StepReport) -> None:
        self.steps.append(report)

    def epoch(self, record: EpochRecord, best: bool) -> None:
        self.epochs.append((record.epoch, best))

    def close(self) -> None:
        self.closed += 1


class Crash(Exception):
    """The process died, as far as the run is concerned."""


class CrashAfter(Silent):
    """Ends a run in the middle of nowhere after so many steps of this session."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def step(self, report: StepReport) -> None:
        super().step(report)
        self._left -= 1
        if self._left == 0:
            raise Crash


def toy_train(output: Path, *, model: nn.Module | None = None, **options: Any) -> TrainingResult:
    """Runs `train` on the toy data; options of `TrainingConfig` and of `train` mixed."""
    options = {"tensorboard": False, "checkpoint_steps": 2, "log_steps": 3, **options}
    settings = {
        k: options.pop(k) for k in list(options) if k in type(Config().training).model_fields
    }
    options = {"evaluate": evaluate, "reporter": Silent(), **options}
    return train(
        ToyModel() if model is None else model,
        toy_split(),
        toy_features(),
        toy_config(output, **settings),
        **options,
    )


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV log without the columns that measure time."""
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def timeless(value: Any) -> Any:
    """A JSON value without measured times."""
    if isinstance(value, Mapping):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    if isinstance(value, list):
        return [timeless(entry) for entry in value]
    return value


def state_of(output: Path) -> dict[str, Any]:
    """Everything a finished run left that must not depend on interruptions."""
    last, header = load(output / "checkpoints" / LAST)
    best, best_header = load(output / "checkpoints" / BEST)
    return {
        "last": last,
        "progress": timeless(header["progress"]),
        "best": best,
        "best header": best_header,
        "steps.csv": table(output / "logs" / "steps.csv"),
        "epochs.csv": table(output / "logs" / "epochs.csv"),
        "diagnoses.csv": table(output / "logs" / "diagnoses.csv"),
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what is not equal, tensors bit for bit."""

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
        return bool(a == b)

    return [name for name in one if not same(one[name], other[name])]
