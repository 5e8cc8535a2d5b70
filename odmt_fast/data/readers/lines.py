"""Text files read line by line, with errors that name the line."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from odmt_fast.data.bounds import bounds
from odmt_fast.data.errors import DataError


def open_binary(path: Path) -> IO[bytes]:
    """Opens `path` for reading, through gzip where its name ends in .gz.

    Raises:
        DataError: there is no such file.
    """
    require_file(path)
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def require_file(path: Path) -> None:
    """Raises a DataError unless `path` is a file; a pipe or a device is not opened."""
    if not path.exists():
        raise DataError(path, "there is no such file")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe, a socket or a device"
        raise DataError(path, f"this is {kind}, not a file")


def utf8_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers (from 1) and lines of `path` without their line end or a byte order mark.

    Raises:
        DataError: there is no such file, a line is not UTF-8 or longer than the bounds allow, or
            the gzip is damaged.
    """
    with open_binary(path) as file:
        for number, raw in enumerate(_raw_lines(path, file), 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                found = f"(byte {error.start + 1} of the line)"
                if number == 1:
                    found = _disguise(path, raw) or found
                raise DataError(path, f"not UTF-8 {found}", line=number) from error
            yield number, line.rstrip("\r\n")


def _raw_lines(path: Path, file: IO[bytes]) -> Iterator[bytes]:
    """The lines as bytes, none of them held beyond the bounds."""
    number, longest = 1, bounds().line_bytes
    while True:
        try:
            raw = file.readline(longest + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(path, f"the gzip is damaged: {error}", line=number) from error
        if not raw:
            return
        if len(raw) > longest:
            raise DataError(
                path,
                f"this line has more than {longest:,} bytes; if it is one, raise --max-line-bytes",
                line=number,
            )
        yield raw
        number += 1


def _disguise(path: Path, raw: bytes) -> str:
    """What the first bytes of a file show it to be, and the remedy; nothing where they do not."""
    if raw.startswith(b"\x1f\x8b"):
        twice = path.suffix == ".gz"
        return "but gzip in gzip: unpack it once" if twice else "but gzip: add .gz to its name"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "but UTF-16, as Excel writes it: save it as UTF-8"
    return ""


def check_quotes(path: Path, *, spanning: bool) -> None:
    """Makes sure that no quoted field of a CSV swallows the lines after it.

    Args:
        path: the file.
        spanning: whether a field may go on over line ends; then it must end somewhere.

    Raises:
        DataError: names the line on which a field begins that does not end.
    """
    with open_binary(path) as file:
        try:
            if not any(b'"' in block for block in iter(lambda: file.read(16 << 20), b"")):
                return
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(path, f"the gzip is damaged: {error}") from error
    opened = None
    with open_binary(path) as file:
        for number, raw in enumerate(_raw_lines(path, file), 1):
            if raw.count(b'"') % 2:
                opened = None if opened else number
                if not spanning:
                    break
    if opened:
        raise DataError(path, "a quoted field begins here and does not end", line=opened)


def csv_line(path: Path, row: int) -> int:
    """Line at which data row `row` (from 0, header and blank lines not counted) of a CSV ends."""
    left, number, quoted, filled = row + 2, 0, False, False
    with _open_text(path) as file:  # not the csv module: it refuses long fields
        for number, line in enumerate(file, 1):
            filled |= bool(line.strip("\r\n"))
            quoted ^= bool(line.count('"') % 2)
            if filled and not quoted:
                left, filled = left - 1, False
            if not left:
                return number
    return number


def explain_csv(path: Path, reason: str, delimiter: str = ",") -> DataError:
    """The error to raise for a CSV the fast parser refused: finds the line, else says `reason`."""
    try:
        for _ in utf8_lines(path):
            pass
    except DataError as error:
        return error
    with _open_text(path) as file:
        reader = csv.reader(file, delimiter=delimiter)
        try:
            header = next(reader, [])
            for record in reader:
                if record and len(record) != len(header):
                    return DataError(
                        path,
                        f"{len(record)} columns where the header has {len(header)}",
                        line=reader.line_num,
                    )
        except csv.Error as error:  # a field longer than the module takes; the fast parser's word
            return DataError(path, f"{reason} ({error})", line=reader.line_num)
    return DataError(path, reason)


def _open_text(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_binary(path), "utf-8-sig", errors="replace", newline="")
