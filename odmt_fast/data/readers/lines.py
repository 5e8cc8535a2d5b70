"""Text files read line by line, with errors that name the line."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from odmt_fast.data.bounds import bounds
from odmt_fast.data.errors import DataError
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.recoding import UTF8, Recoded, is_utf8


def open_binary(path: Path) -> IO[bytes]:
    """Opens `path` for reading, through gzip where its name ends in .gz.

    Raises:
        DataError: there is no such file.
    """
    require_file(path)
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def open_utf8(path: Path, encoding: str = UTF8) -> IO[bytes]:
    """As `open_binary`, a file in another encoding turned into UTF-8 on the way."""
    file = open_binary(path)
    return file if is_utf8(encoding) else io.BufferedReader(Recoded(path, file, encoding))


def require_file(path: Path) -> None:
    """Raises a DataError unless `path` is a file; a pipe or a device is not opened."""
    if not path.exists():
        raise DataError(path, "there is no such file")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe, a socket or a device"
        raise DataError(path, f"this is {kind}, not a file")


def utf8_lines(path: Path, encoding: str = UTF8) -> Iterator[tuple[int, str]]:
    """Line numbers (from 1) and lines of `path` without their line end or a byte order mark.

    Raises:
        DataError: there is no such file, lines are not of that encoding or longer than the bounds
            allow, or the gzip is damaged.
    """
    with open_utf8(path, encoding) as file:
        lines = enumerate(raw_lines(path, file), 1)
        for number, raw in lines:
            try:
                line = _decode(number, raw)
            except UnicodeDecodeError as error:
                _refuse(path, number, raw, error, lines)
            yield number, line.rstrip("\r\n")


def raw_lines(path: Path, file: IO[bytes]) -> Iterator[bytes]:
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


def _decode(number: int, raw: bytes) -> str:
    return raw.decode("utf-8-sig" if number == 1 else UTF8)


def _refuse(
    path: Path,
    number: int,
    raw: bytes,
    error: UnicodeDecodeError,
    rest: Iterator[tuple[int, bytes]],
) -> None:
    """Raises a DataError that tells this and the other lines that are not UTF-8."""
    if number == 1 and (found := _disguise(path, raw)):
        raise DataError(path, f"not UTF-8 {found}", line=1) from error
    faults = Faults(path)
    while True:
        faults.tell(
            number,
            f"not UTF-8 (byte {error.start + 1} of the line)",
            f"name its encoding, such as --encoding {path.name}=cp1252 or =latin-1",
        )
        for number, raw in rest:
            try:
                _decode(number, raw)
            except UnicodeDecodeError as another:
                error = another
                break
        else:
            faults.check()


def _disguise(path: Path, raw: bytes) -> str:
    """What the first bytes of a file show it to be, and the remedy; nothing where they do not."""
    if raw.startswith(b"\x1f\x8b"):
        twice = path.suffix == ".gz"
        return "but gzip in gzip: unpack it once" if twice else "but gzip: add .gz to its name"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"but UTF-16, as Excel writes it: pass --encoding {path.name}=utf-16"
    return ""
