"""What was tried, and how often it ended as nothing may."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

_NOTES = 20


@dataclass
class Tally:
    """One row of the table; `notes` keeps the first of what went wrong.

    Attributes:
        what: the row's name.
        tried: trials.
        refused: trials that ended in a refusal naming the file.
        unchanged: trials that ended as if nothing had happened, bit for bit.
        silent: trials that ended well with other results.
        unnamed: trials that ended in an error which does not say what is wrong where.
        crashes: trials that ended by a signal, a traceback or not at all.
    """

    what: str
    tried: int = 0
    refused: int = 0
    unchanged: int = 0
    silent: int = 0
    unnamed: int = 0
    crashes: int = 0
    notes: list[str] = field(default_factory=list)

    def count(self, how: str, note: str = "") -> None:
        """Counts a trial under `how`; bad ones leave a note."""
        self.tried += 1
        setattr(self, how, getattr(self, how) + 1)
        if how in ("silent", "unnamed", "crashes") and len(self.notes) < _NOTES:
            self.notes.append(f"{how}: {note}")

    def add(self, other: Tally) -> None:
        """Takes in the trials of another lane."""
        for name in ("tried", "refused", "unchanged", "silent", "unnamed", "crashes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.notes = (self.notes + other.notes)[:_NOTES]

    @property
    def clean(self) -> bool:
        """Whether nothing ended as nothing may."""
        return not (self.silent or self.unnamed or self.crashes)


def in_lanes(
    function: Callable[..., Tally], jobs: Iterable[tuple[Any, ...]], lanes: int
) -> list[Tally]:
    """Calls `function` with each of `jobs` in a few forked processes; joins rows of one name."""
    rows: dict[str, Tally] = {}
    with ProcessPoolExecutor(lanes, mp_context=get_context("fork")) as pool:
        for future in [pool.submit(function, *job) for job in jobs]:
            tally = future.result()
            print(f"{tally.what}: {tally.tried:,} trials", file=sys.stderr, flush=True)
            rows.setdefault(tally.what, Tally(tally.what)).add(tally)
    return list(rows.values())
