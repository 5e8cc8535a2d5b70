"""What is refused before memory is taken for it, and how to allow more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

from odmt_fast.data.errors import DataError
from odmt_fast.data.pictures import PictureLimits

_MANY_ROWS = 1_000_000


@dataclass(frozen=True)
class Bounds:
    """Bounds of one reading.

    Attributes:
        line_bytes: of a line of text, unpacked (--max-line-bytes).
        columns: of a table (--max-columns).
        rows_per_byte: rows of a Parquet file by its size, past a million rows; a few bytes can
            claim any number of equal rows.
        pictures: of every picture (--max-pixels).

    Raises:
        ValueError: a bound is not positive.
    """

    line_bytes: int = 64 << 20
    columns: int = 10_000
    rows_per_byte: int = 100
    pictures: PictureLimits = field(default_factory=PictureLimits)

    def __post_init__(self) -> None:
        flags = {"--max-line-bytes": self.line_bytes, "--max-columns": self.columns}
        for flag, value in {**flags, "--max-pixels": self.pictures.max_pixels}.items():
            if value < 1:
                raise ValueError(f"{flag} {value} must be at least 1")

    def updated(
        self,
        *,
        line_bytes: int | None = None,
        columns: int | None = None,
        max_pixels: int | None = None,
    ) -> Bounds:
        """These bounds with others where they are not None."""
        return replace(
            self,
            line_bytes=self.line_bytes if line_bytes is None else line_bytes,
            columns=self.columns if columns is None else columns,
            pictures=self.pictures
            if max_pixels is None
            else replace(self.pictures, max_pixels=max_pixels),
        )

    def check_table(self, path: Path, columns: int, rows: int = 0) -> None:
        """Raises a DataError for a table that claims more columns or rows than are read."""
        if columns > self.columns:
            raise DataError(
                path,
                f"{columns:,} columns, more than the {self.columns:,} that are read; leave out "
                "some or raise --max-columns",
            )
        size = path.stat().st_size
        if rows > max(_MANY_ROWS, size * self.rows_per_byte):
            raise DataError(
                path,
                f"{rows:,} rows in {size:,} bytes, which no log of interactions has; write the "
                "file again",
            )


BOUNDS = Bounds()
"""Bounds nobody asked to change."""

_current: ContextVar[Bounds] = ContextVar("bounds", default=BOUNDS)


def bounds() -> Bounds:
    """The bounds of the reading that goes on in this thread."""
    return _current.get()


def block_bytes(usual: int) -> int:
    """Bytes a parser takes at once: `usual`, or more where longer lines are allowed."""
    longest = bounds().line_bytes
    return usual if longest <= BOUNDS.line_bytes else max(usual, min(longest, 2**31 - 1))


@contextlib.contextmanager
def bounded(by: Bounds) -> Iterator[None]:
    """Reads within the context keep to the bounds `by`."""
    before = _current.set(by)
    try:
        yield
    finally:
        _current.reset(before)
