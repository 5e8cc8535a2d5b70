"""The one error of this room: which file, which line, what is wrong with it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path


def place(file: Path) -> str:
    """What counts the places of `file`: rows of a Parquet file or of a ``<frame>``, else lines."""
    return "row" if file.suffix == ".parquet" or file.name.startswith("<") else "line"


class DataError(ValueError):
    """Input that cannot be used; its message is one line ``file, line N: reason``.

    Attributes:
        file: the file (or directory) at fault.
        line: 1-based line of a text file, row of a Parquet file or of a frame; None when the whole
            file is meant.
        reason: what is wrong and, where there is one, the remedy.
    """

    def __init__(self, file: str | PathLike[str], reason: str, *, line: int | None = None) -> None:
        self.file = Path(file)
        self.line = line
        self.reason = " ".join(reason.split())
        where = f"{self.file}, {place(self.file)} {line}" if line is not None else f"{self.file}"
        super().__init__(f"{where}: {self.reason}")
