"""How much of the ranking is order: the same model asked with every history shuffled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odmt_fast.data.sequences import Sequences
from odmt_fast.evaluation import EvaluationResult, evaluate
from odmt_fast.models import SequentialModel
from odmt_fast.randomness import numpy_generator
from odmt_fast.storage import write_atomically
from odmt_fast.workflow.workspace import Workspace


@dataclass(frozen=True)
class Shuffled:
    """An evaluation beside the same one with the inputs of every user in random order.

    Attributes:
        part: "valid" or "test".
        seed: of the orders.
        ordered: as it was.
        draws: one for every order that was drawn.
    """

    part: str
    seed: int
    ordered: EvaluationResult
    draws: Sequence[EvaluationResult]

    def value(self, metric: str, name: str) -> float:
        """Mean over the draws of a metric of one ranking."""
        return float(np.mean([result.value(metric, name) for result in self.draws]))

    def table(self, metrics: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """Header and rows of text: each metric as it was, shuffled, and what share is left."""
        header = [""]
        for metric in metrics:
            header += [metric.upper(), "shuffled", "left"]
        rows = []
        for name in self.ordered.names:
            cells = [name]
            for metric in metrics:
                was, found = self.ordered.value(metric, name), self.value(metric, name)
                cells += [f"{was:.4f}", f"{found:.4f}", f"{found / was:.1%}" if was else ""]
            rows.append(tuple(cells))
        return tuple(header), tuple(rows)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "part": self.part,
            "seed": self.seed,
            "users": self.ordered.n_users,
            "ordered": self.ordered.metrics,
            "shuffled": [result.metrics for result in self.draws],
        }

    def save(self, run: Path) -> Path:
        """Writes ``shuffle-<part>.json`` to the folder of a run."""
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        path = run / f"shuffle-{self.part}.json"
        write_atomically(path, lambda unfinished: unfinished.write_text(text, "utf-8"))
        return path


def with_shuffled_inputs(sequences: Sequences, seed: int, draw: int = 0) -> Sequences:
    """Every sequence with its items but the last, which is the target, in random order."""
    place = numpy_generator(seed, "shuffled histories", step=draw).random(sequences.items.size)
    place[sequences.offsets[1:] - 1] = 1.0  # above all others
    order = np.lexsort((place, sequences.user_of_item()))
    return Sequences(sequences.items[order], sequences.offsets)


def shuffle_study(
    workspace: Workspace, model: SequentialModel, part: str, *, seed: int, draws: int
) -> Shuffled:
    """Ranks the targets of a part as they are, and `draws` times with the inputs shuffled.

    What is left out of the ranking stays the same, and so do the targets: a model that reads no
    order loses nothing.

    Raises:
        ValueError: there is no such part, or `draws` is below 1.
    """
    if draws < 1:
        raise ValueError(f"--draws {draws} must be at least 1")
    sequences, history = workspace.ranked.part(part)
    settings, popularity = workspace.config.evaluation, workspace.split.popularity
    found = [
        evaluate(
            model,
            with_shuffled_inputs(sequences, seed, draw),
            history,
            settings,
            popularity=popularity,
        )
        for draw in range(draws)
    ]
    return Shuffled(part, seed, workspace.evaluate(model, part), found)
