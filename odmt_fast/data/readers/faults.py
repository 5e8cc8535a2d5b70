"""Faults of one file, told together: the first ten with their lines, and how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from odmt_fast.data.errors import DataError, place

NAMED = 10
_MOST = 100_000


def _same(rows: Sequence[int]) -> list[int]:
    return list(rows)


@dataclass
class Faults:
    """Gathers what is wrong with a file while it is read.

    Attributes:
        path: the file.
        lines_of: lines (from 1) of ascending places; by default the places are lines.
        count: faults so far.
    """

    path: Path
    lines_of: Callable[[Sequence[int]], list[int]] = _same
    count: int = 0
    _first: list[tuple[int, str]] = field(default_factory=list)
    _ways_on: dict[str, None] = field(default_factory=dict)

    def add(self, places: Iterable[int], reason: Callable[[int], str], way_on: str = "") -> None:
        """Adds a fault at each of the places; `reason` is asked for the first ones alone.

        Raises:
            DataError: there are so many that reading on tells nothing more.
        """
        ascending = sorted(places)
        if not ascending:
            return
        self.count += len(ascending)
        self._first += [(place, reason(place)) for place in ascending[:NAMED]]
        self._first = sorted(self._first, key=lambda fault: fault[0])[:NAMED]
        if way_on:
            self._ways_on[way_on] = None
        if self.count > _MOST:
            self.check()

    def tell(self, place: int, reason: str, way_on: str = "") -> None:
        """Adds one fault; see `add`."""
        self.add([place], lambda _: reason, way_on)

    def check(self) -> None:
        """Raises a DataError that tells the faults, where there is one."""
        if not self.count:
            return
        lines = self.lines_of([place for place, _ in self._first])
        line, told = lines[0], self._first[0][1]
        if self.count > 1:
            unit = place(self.path)
            others = zip(lines[1:], self._first[1:], strict=True)
            shown = "; ".join(f"{unit} {number}: {reason}" for number, (_, reason) in others)
            over = self.count > _MOST  # the rest of the file was not looked at
            left = self.count - len(self._first)
            more = f"; and {'' if over else f'{left:,} '}more" if left else ""
            count = f"over {_MOST:,}" if over else f"{self.count:,}"
            told = f"{told}; {count} faults in all: {shown}{more}"
        raise DataError(self.path, "; ".join((told, *self._ways_on)), line=line)
