"""One small step of training and ranking, watched: which backend each operator takes, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from odmt_fast.batch import Collator
from odmt_fast.config import ModelConfig
from odmt_fast.data import Sequences, leave_one_out
from odmt_fast.evaluation import evaluate
from odmt_fast.features.tokens import TokenTable
from odmt_fast.kernels import backend
from odmt_fast.kernels.backend import Missing
from odmt_fast.models.zoo import build
from odmt_fast.randomness import numpy_generator, torch_generator


@dataclass(frozen=True)
class Choice:
    """Of one operator, for one kind of tensors.

    Attributes:
        operator: its name.
        device: type of the device its tensors are on.
        backend: what runs.
        why: what keeps each faster backend from running, or that this is the fastest.
    """

    operator: str
    device: str
    backend: str
    why: str


def probe(device: torch.device) -> tuple[list[Choice], str | None]:
    """Runs the step; the choices made until it ended, and what ended it early (None: nothing)."""
    choices: list[Choice] = []

    def note(op: str, device_type: str, chosen: str, candidates: Mapping[str, Missing]) -> None:
        choice = Choice(op, device_type, chosen, _why(chosen, device_type, candidates))
        if choice not in choices:
            choices.append(choice)

    failure = None
    with backend.watched(note):
        try:
            _step(device)
        # Whatever is wrong with the machine is the answer, not an accident.
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    return sorted(choices, key=_name), failure


def _name(choice: Choice) -> str:
    return choice.operator


def _step(device: torch.device) -> None:
    generator, draws = numpy_generator(0, "probe"), torch_generator(0, "probe")
    users = [generator.choice(40, size, replace=False) + 1 for size in (5, 7, 9, 6)]
    split = leave_one_out(Sequences.from_lists([user.tolist() for user in users]), 40, 6)
    text, image = (TokenTable.from_padded(torch.randn(41, 3, 8, generator=draws)) for _ in range(2))
    config = ModelConfig(width=16, max_seq_len=6)
    sources = {"text": text, "image": image}
    model = build(config, split.popularity, sources, generator=draws).to(device)
    batch = Collator(split.train, 6, (text, image))(np.arange(len(users))).to(device)
    torch.autograd.backward(model(batch, 1)["loss"])
    evaluate(model, split.test, split.test_history)


def _why(name: str, device_type: str, candidates: Mapping[str, Missing]) -> str:
    if backend.forced() == name:
        return f"forced by {backend.ENVIRONMENT_VARIABLE}"
    reasons = []
    for candidate, missing in candidates.items():
        if candidate == name:
            break
        reasons.append(f"{candidate}: {missing(device_type)}")
    return "; ".join(reasons) or "the fastest"
