"""The golden cases: results of the official code (tests/golden, DESIGN section 8)."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Golden:
    """One case: arguments, inputs and what the official code made of them."""

    name: str
    args: Namespace
    users: list[list[int]]
    n_items: int
    losses: dict[int, dict[str, float]]
    grad_epoch: int
    metrics: dict[str, dict[str, list[str]]]
    tensors: dict[str, Tensor]

    def group(self, group: str) -> dict[str, Tensor]:
        """Tensors under ``group/``, by the rest of their key."""
        start = group + "/"
        return {k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)}

    def __getitem__(self, key: str) -> Tensor:
        return self.tensors[key]


def load(name: str) -> Golden:
    """Reads a golden case by name."""
    info = json.loads((FOLDER / f"{name}.json").read_text())
    return Golden(
        name=name,
        args=Namespace(**info["args"]),
        users=info["users"],
        n_items=info["n_items"],
        losses={int(epoch): values for epoch, values in info["losses"].items()},
        grad_epoch=info["grad_epoch"],
        metrics=info["metrics"],
        tensors=load_file(FOLDER / f"{name}.safetensors"),
    )
