"""How a CSV is written: its encoding, what stands between its columns, and whether it quotes."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from odmt_fast.data.errors import DataError
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.lines import open_utf8, raw_lines, utf8_lines
from odmt_fast.data.readers.recoding import UTF8, Translated, is_utf8, of_file

TAB_SUFFIXES = (".tsv", ".tab", ".inter", ".item")
"""The last two are RecBole's."""
_NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t"}
# Stands for a delimiter of several bytes: the fast parser takes one.
_STAND_IN = "\x1f"


@dataclass(frozen=True)
class CsvFormat:
    """What is said of all CSV files of a folder.

    Attributes:
        encoding: a name Python knows; ``FILE=NAME`` is of that file alone.
        delimiter: between the columns, of any length, "tab" for a TAB; ``FILE=DELIMITER`` is of
            that file alone. None takes a TAB in files named .tsv, .tab, .inter or .item, and a
            comma in others.
        quotes: whether a field may stand in quotation marks; None: yes, but where the delimiter is
            a TAB or longer than one letter, as such files are written without.

    Raises:
        ValueError: the encoding is not known, or the delimiter cannot be one.
    """

    encoding: str = UTF8
    delimiter: str | None = None
    quotes: bool | None = None

    def __post_init__(self) -> None:
        is_utf8(self.encoding.rpartition("=")[2])
        given = self.delimiter
        if given is not None and (not given or set(given) & set('\r\n"')):
            raise ValueError(f"--delimiter {given!r} cannot stand between columns; use , ; tab ::")

    def delimiter_of(self, path: Path) -> str:
        """What stands between the columns of `path`."""
        given = of_file(self.delimiter or "", path)
        if given:
            return _NAMED_DELIMITERS.get(given, given)
        return "\t" if set(TAB_SUFFIXES) & set(path.suffixes) else ","

    def encoding_of(self, path: Path) -> str:
        """How the letters of `path` are written."""
        return of_file(self.encoding, path) or UTF8

    def quotes_of(self, path: Path) -> bool:
        """Whether `path` quotes fields."""
        if self.quotes is not None:
            return self.quotes
        delimiter = self.delimiter_of(path)
        return len(delimiter) == 1 and delimiter != "\t"

    def mark_of(self, path: Path) -> str:
        """One ASCII letter that stands between the columns in what `open` gives."""
        delimiter = self.delimiter_of(path)
        return delimiter if len(delimiter.encode()) == 1 else _STAND_IN

    def is_plain(self, path: Path) -> bool:
        """Whether `open` gives the bytes of the file as they are."""
        return is_utf8(self.encoding_of(path)) and self.mark_of(path) == self.delimiter_of(path)

    def open(self, path: Path) -> IO[bytes]:
        """`path` in UTF-8, `mark_of` between its columns."""
        file = open_utf8(path, self.encoding_of(path))
        delimiter = self.delimiter_of(path)
        if self.mark_of(path) == delimiter:
            return file
        return io.BufferedReader(_Replaced(path, file, delimiter.encode()))


class _Replaced(Translated):
    """UTF-8 with the stand-in for a delimiter of several bytes, line by line."""

    def __init__(self, path: Path, file: IO[bytes], delimiter: bytes) -> None:
        super().__init__(file)
        self._path, self._delimiter = path, delimiter
        self._lines = raw_lines(path, file)

    def piece(self) -> bytes:
        """The next line."""
        line = next(self._lines, b"")
        if _STAND_IN.encode() in line:
            shown = self._delimiter.decode()
            raise DataError(
                self._path, f"the letter U+001F stands beside --delimiter {shown}; take it out"
            )
        return line.replace(self._delimiter, _STAND_IN.encode())


def check_quotes(path: Path, form: CsvFormat, *, spanning: bool) -> None:
    """Makes sure that no quoted field of a CSV swallows the lines after it.

    Args:
        path: the file.
        form: how it is written.
        spanning: whether a field may go on over line ends; then it must end somewhere.

    Raises:
        DataError: names the line on which a field begins that does not end.
    """
    with form.open(path) as file:
        try:
            if not any(b'"' in block for block in iter(lambda: file.read(16 << 20), b"")):
                return
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(path, f"the gzip is damaged: {error}") from error
    opened = None
    with form.open(path) as file:
        for number, raw in enumerate(raw_lines(path, file), 1):
            if raw.count(b'"') % 2:
                opened = None if opened else number
                if not spanning:
                    break
    if opened:
        raise DataError(
            path,
            "a quoted field begins here and does not end; where quotation marks are letters, pass "
            "--no-quotes",
            line=opened,
        )


def csv_lines(path: Path, form: CsvFormat, rows: Sequence[int]) -> list[int]:
    """Lines at which the data rows (ascending, from 0, header and blank lines not counted) end."""
    quoting = form.quotes_of(path)
    wanted = iter(rows)
    next_row = next(wanted, None)
    row, quoted, filled = -1, False, False  # row -1 is the header
    found: list[int] = []
    with _open_text(path, form) as file:  # not the csv module: it refuses long fields
        for number, line in enumerate(file, 1):
            filled |= bool(line.strip("\r\n"))
            quoted ^= quoting and bool(line.count('"') % 2)
            if not filled or quoted:
                continue
            while next_row == row:
                found.append(number)
                next_row = next(wanted, None)
            if next_row is None:
                break
            row, filled = row + 1, False
    return found


def explain_csv(path: Path, reason: str, form: CsvFormat) -> DataError:
    """The error to raise for a CSV the fast parser refused: finds the lines, else says `reason`."""
    faults = Faults(path)
    try:
        for _ in utf8_lines(path, form.encoding_of(path)):
            pass
        _gather_uneven(path, form, faults)
        faults.check()
    except DataError as error:
        return error
    except csv.Error as error:  # a field longer than the module takes; the fast parser's word
        return DataError(path, f"{reason} ({error})")
    return DataError(path, reason)


def _gather_uneven(path: Path, form: CsvFormat, faults: Faults) -> None:
    """Adds the lines whose number of columns is not that of the header."""
    with _open_text(path, form) as file:
        reader = csv.reader(
            file,
            delimiter=form.mark_of(path),
            quoting=csv.QUOTE_MINIMAL if form.quotes_of(path) else csv.QUOTE_NONE,
        )
        header = next(reader, [])
        for record in reader:
            if record and len(record) != len(header):
                told = f"{len(record)} columns where the header has {len(header)}"
                faults.tell(reader.line_num, told)


def _open_text(path: Path, form: CsvFormat) -> io.TextIOWrapper:
    return io.TextIOWrapper(form.open(path), "utf-8-sig", errors="replace", newline="")
