"""Where results go: tables for people, one JSON object for programs, progress to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from odmt_fast.cli.text import hidden, one_line, visible
from odmt_fast.processes import launched

# Of a table that no terminal limits: a file or a pipe keeps what 80 columns would cut.
_PIPE_WIDTH = 160
_WIDEST_TEXT = 60


class PlainConsole(Console):
    """A console that shows every string as it is: no markup, no emoji codes, no escapes."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=True)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _PIPE_WIDTH

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string on its way to the terminal, cells and titles of tables included."""
        shown = visible(text).encode(self.encoding, "backslashreplace").decode(self.encoding)
        return super().render_str(shown, **{**options, "markup": False, "emoji": False})


class Output:
    """Of one command; of several processes the first one has it.

    Args:
        as_json: the result is one JSON object on stdout and nothing else.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.console = PlainConsole()
        self._progress = PlainConsole(stderr=True)
        self._talks = launched().first

    def note(self, text: str) -> None:
        """Says on stderr what happens."""
        if not self._talks:
            return
        self._progress.print(text, style="dim")

    def result(self, values: dict[str, Any], show: Callable[[Console], None]) -> None:
        """The result of the command, once."""
        if not self._talks:
            return
        if self.as_json:
            print_json(values)
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


def print_json(values: dict[str, Any]) -> None:
    """One JSON object on stdout; letters that its encoding lacks or nobody sees are escaped."""
    text = json.dumps(values, default=_plain, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(values, default=_plain)
    # Inside its strings JSON may name any letter by its number.
    print("".join(f"\\u{ord(letter):04x}" if hidden(letter) else letter for letter in text))


def table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    texts: Collection[str] = (),
) -> Table:
    """A table whose first column is text and whose others are numbers.

    Args:
        title: above the table.
        header: names of the columns.
        rows: cells; each is shown in one line.
        texts: further columns of free text, which may be cut to fit (names and numbers are not).
    """
    made = Table(title=title, title_justify="left", title_style="bold")
    for place, name in enumerate(header):
        if name in texts:
            add_text_column(made, name)
        else:
            made.add_column(name, justify="right" if place else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(one_line, row))
    return made


def add_text_column(made: Table, name: str) -> None:
    """A column of free text: one line a cell, an ellipsis where it is cut."""
    made.add_column(name, no_wrap=True, overflow="ellipsis", max_width=_WIDEST_TEXT)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
