"""Text files read line by line, with errors that name the line."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from odmt_fast.data.errors import DataError


def open_binary(path: Path) -> IO[bytes]:
    """Opens `path` for reading, through gzip where its name ends in .gz.

    Raises:
        DataError: there is no such file.
    """
    try:
        return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
    except FileNotFoundError:
        raise DataError(path, "there is no such file") from None


def utf8_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers (from 1) and lines of `path` without their line end or a byte order mark.

    Raises:
        DataError: there is no such file, or a line is not UTF-8.
    """
    with open_binary(path) as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    path, f"not UTF-8 (byte {error.start + 1} of the line)", line=number
                ) from error
            yield number, line.rstrip("\r\n")


def csv_line(path: Path, row: int, delimiter: str = ",") -> int:
    """Line at which data row `row` (from 0, header and blank lines not counted) of a CSV ends."""
    with _open_text(path) as file:
        reader = csv.reader(file, delimiter=delimiter)
        rows = (record for record in reader if record)
        for _ in range(row + 2):
            next(rows, None)
        return reader.line_num


def explain_csv(path: Path, reason: str, delimiter: str = ",") -> DataError:
    """The error to raise for a CSV the fast parser refused: finds the line, else says `reason`."""
    try:
        for _ in utf8_lines(path):
            pass
    except DataError as error:
        return error
    with _open_text(path) as file:
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader, [])
        for record in reader:
            if record and len(record) != len(header):
                return DataError(
                    path,
                    f"{len(record)} columns where the header has {len(header)}",
                    line=reader.line_num,
                )
    return DataError(path, reason)


def _open_text(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_binary(path), "utf-8-sig", errors="replace", newline="")
