"""The CPU-seconds of a study's runs in its table, and which processors they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from string import ascii_lowercase
from typing import Any

COLUMN = "CPU s per epoch"
Run = Mapping[str, Any]


def processors(runs: Iterable[Run]) -> dict[str, str]:
    """Processor -> the letter that marks its seconds; empty where all runs are of one.

    A study goes on wherever it is started again, and seconds of different machines tell nothing of
    the models.
    """
    found = dict.fromkeys(run["processor"] for run in _timed(runs))
    return dict(zip(found, ascii_lowercase, strict=False)) if len(found) > 1 else {}


def cell(runs: Sequence[Run], letters: Mapping[str, str]) -> str:
    """Their mean, marked; empty where no run was timed."""
    if not (timed := _timed(runs)):
        return ""
    marks = sorted({letters.get(run["processor"], "") for run in timed})
    seconds = fmean(run["epoch_cpu_seconds"] for run in timed)
    return f"{seconds:.1f} {''.join(marks)}".rstrip()


def machines(found: Mapping[str, Any], letters: Mapping[str, str]) -> str:
    """The line below the table of the file `found`."""
    last = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    if not letters:
        return f"<sub>{last}</sub>"
    marked = "; ".join(f"{letter}: {name}" for name, letter in letters.items())
    return f"<sub>{COLUMN} on {marked}. The last run: {last}</sub>"


def _timed(runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run.get("epoch_cpu_seconds")]
