"""Where results go: tables for people, one JSON object for programs, progress to stderr."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


class Output:
    """Of one command.

    Args:
        as_json: the result is one JSON object on stdout and nothing else.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, soft_wrap=True)
        self._progress = Console(stderr=True, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Says on stderr what happens."""
        self._progress.print(text, markup=False, style="dim")

    def result(self, values: dict[str, Any], show: Callable[[Console], None]) -> None:
        """The result of the command, once."""
        if self.as_json:
            print(json.dumps(values, default=_plain, ensure_ascii=False))
        else:
            show(self.console)

    def counter(self, what: str) -> Callable[[int, int], None]:
        """A callback (done, in all) that notes every tenth of the way."""
        tenths = 0

        def tell(done: int, total: int) -> None:
            nonlocal tenths
            reached = 10 * done // max(total, 1)
            if reached > tenths:
                tenths = reached
                self.note(f"{what}: {done} of {total}")

        return tell


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold")
    for place, name in enumerate(header):
        made.add_column(name, justify="right" if place else "left")
    for row in rows:
        made.add_row(*row)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
