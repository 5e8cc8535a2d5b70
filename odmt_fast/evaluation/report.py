"""All that an evaluation tells beside its metrics, as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odmt_fast.evaluation.credit import Credit
from odmt_fast.evaluation.exposure import Exposure
from odmt_fast.evaluation.result import EvaluationResult
from odmt_fast.storage import write_atomically

Table = tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]
"""Title, header and rows of text."""


def slice_tables(slices: Mapping[str, EvaluationResult], ranked: str) -> Iterator[Table]:
    """A table of every slice; `ranked` says what it is of: "users" or "targets"."""
    for name, part in slices.items():
        yield (f"{name}: {part.n_users:,} {ranked}", *part.table())


@dataclass(frozen=True)
class EvaluationReport:
    """Of one evaluation.

    Attributes:
        result: ranks and metrics of all targets.
        slices: those of some of them, by what they have in common.
        k: places of a list, for `exposure`.
        exposure: what the lists show, by ranking.
        credit: which branch found what; None of a single one.
        ranked: what is ranked: "users" or "targets".
    """

    result: EvaluationResult
    slices: Mapping[str, EvaluationResult]
    k: int
    exposure: Mapping[str, Exposure]
    credit: Credit | None
    ranked: str = "users"

    def tables(self) -> Iterator[Table]:
        """What there is to see beside the metrics of all targets."""
        yield from slice_tables(self.slices, self.ranked)
        header = ("", "coverage", "Gini", "popularity", "cold items")
        rows = tuple(
            (name, f"{e.coverage:.1%}", f"{e.gini:.4f}", f"{e.popularity:.3f}", f"{e.cold:.1%}")
            for name, e in self.exposure.items()
        )
        yield f"What the first {self.k} places show", header, rows
        if self.credit is not None:
            yield (f"Who finds a target within {self.credit.k}", *self.credit.table())

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **self.result.to_dict(),
            "slices": {name: part.to_dict() for name, part in self.slices.items()},
            "exposure": {
                "k": self.k,
                "rankings": {name: found.to_dict() for name, found in self.exposure.items()},
            },
            "credit": self.credit and self.credit.to_dict(),
        }

    def save(self, run: Path, part: str) -> Path:
        """Writes ``report-<part>.json`` to the folder of a run."""
        text = json.dumps(self.to_dict(), indent=1) + "\n"
        path = run / f"report-{part}.json"
        write_atomically(path, lambda unfinished: unfinished.write_text(text, "utf-8"))
        return path
