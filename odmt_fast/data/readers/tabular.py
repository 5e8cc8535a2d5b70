"""CSV and Parquet as a stream of Arrow blocks, with every bad value named by its line."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.bounds import block_bytes, bounds
from odmt_fast.data.errors import DataError
from odmt_fast.data.readers.lines import (
    check_quotes,
    csv_line,
    explain_csv,
    require_file,
    utf8_lines,
)

BLOCK_BYTES = 16 << 20
MISSING = ("nan", "NaN", "NAN", "None", "NULL", "null", "<NA>", "NaT", "N/A", "n/a")
"""What programs write for a value that is not there; no text and no name."""
UNITS = {
    "seconds": (10**8, 10**10),
    "milliseconds": (10**11, 10**13),
    "microseconds": (10**14, 10**16),
    "nanoseconds": (10**17, 2**63),
}
"""Numbers that are a time of 1973 to 2286 in that unit since 1970; the ranges do not touch."""


def blocks(path: Path, columns: tuple[str, ...], *, quoted_newlines: bool = False) -> Iterator[Any]:
    """Arrow record batches of the named columns; every column of a CSV comes as text.

    Args:
        path: a .parquet file or folder of such, or a CSV (.csv, .tsv; .gz on top) with a header.
        columns: names of the columns.
        quoted_newlines: a CSV may have line ends inside quotes (slower).

    Raises:
        DataError: the file or a column is missing, or the file cannot be parsed.
    """
    import pyarrow as pa

    wanted = list(dict.fromkeys(columns))
    if path.suffix == ".parquet" and path.is_dir():
        yield from _parts(path, wanted)
        return
    require_file(path)
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                bounds().check_table(path, file.metadata.num_columns, file.metadata.num_rows)
                _require(path, wanted, file.schema_arrow.names)
                yield from file.iter_batches(columns=wanted)
        # Thrift faults come as plain OSErrors, without the file's name.
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(path, f"this is not a readable Parquet file: {error}") from error
        return

    from pyarrow import csv

    parse = csv.ParseOptions(delimiter=delimiter(path), newlines_in_values=quoted_newlines)
    try:
        _check_separator(path)
        bounds().check_table(path, _header(path).count(delimiter(path)) + 1)
        check_quotes(path, spanning=quoted_newlines)
        _require(path, wanted, csv.open_csv(path, parse_options=parse).schema.names)
        yield from csv.open_csv(
            path,
            parse_options=parse,
            read_options=csv.ReadOptions(block_size=block_bytes(BLOCK_BYTES)),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.string()),
                include_columns=wanted,
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise explain_csv(path, str(error), delimiter(path)) from error


def _parts(path: Path, wanted: list[str]) -> Iterator[Any]:
    """Arrow record batches of a folder of Parquet files, as Spark and Dask write one table."""
    parts = sorted(part for part in path.rglob("*.parquet") if part.name[0] not in "._")
    if not parts:
        raise DataError(path, "this folder holds no .parquet file")
    for part in parts:
        yield from blocks(part, tuple(wanted))


def delimiter(path: Path) -> str:
    """The character between the columns of a CSV: a TAB where the name says .tsv or RecBole's."""
    return "\t" if {".tsv", ".inter", ".item"} & set(path.suffixes) else ","


def line_of_row(path: Path, row: int) -> int:
    """Line of data row `row` (from 0) of a CSV; its number (from 1) in a Parquet file."""
    return row + 1 if path.suffix == ".parquet" else csv_line(path, row)


def names(column: Any, path: Path, title: str, start: int, line_of: Callable[[int], int]) -> Any:
    """A column of names as an Arrow string array.

    Args:
        column: texts or integers.
        path: the file, for errors.
        title: name of the column, for errors.
        start: row of the file (from 0) the column begins at, for errors.
        line_of: line of a row (from 0).

    Raises:
        DataError: a value is missing, blank or one of `MISSING` (two people called "nan" are not
            one), or the column holds something else.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    array = texts(column, path, title)
    blank = pc.equal(pc.utf8_trim_whitespace(array), "")
    bad = pc.fill_null(pc.or_(blank, pc.is_in(array, value_set=pa.array(MISSING))), True)
    if pc.any(bad).as_py():
        at = int(np.flatnonzero(bad.to_numpy(zero_copy_only=False))[0])
        value = array[at].as_py()
        what = "empty" if value is None or not value.strip() else f"{value!r}, a missing value"
        raise DataError(path, f"column {title!r} is {what}", line=line_of(start + at))
    return array


def texts(column: Any, path: Path, title: str) -> Any:
    """A column of texts (or integers) as an Arrow string array; empty texts become null.

    Raises:
        DataError: the column holds something else.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.string())
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_integer(kind)
    ):
        raise DataError(path, f"column {title!r} is of type {kind}; write it as text or integers")
    array = pc.cast(column, pa.string())
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)


@dataclass
class TimeColumn:
    """A column of times that arrives block by block: numbers, dates, or ISO 8601 texts.

    Attributes:
        path: the file, for errors.
        title: name of the column, for errors.
        line_of: line of a row (from 0).
        kind: the Arrow type the first block of texts was read as.
        first: the Arrow type of the first block, texts parsed.
        unit: the one of `UNITS` that the first numbers of any are in.
    """

    path: Path
    title: str
    line_of: Callable[[int], int]
    kind: Any = None
    first: Any = None
    unit: str | None = None

    def numbers(self, column: Any, start: int) -> NDArray[Any]:
        """int64 or float64 values that sort by time.

        Raises:
            DataError: a value is missing, NaN, not a time or in another unit than those before;
                `start` (the row the block begins at, from 0) gives its line.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        types = pa.types
        if not len(column):
            return np.empty(0, np.int64)
        if types.is_string_view(column.type):
            column = pc.cast(column, pa.string())
        if types.is_string(column.type) or types.is_large_string(column.type):
            column = self._parsed(column, start)
        if types.is_date(column.type):
            column = pc.cast(column, pa.timestamp("ms"))
        dated = types.is_timestamp(column.type)
        column = self._like_the_first(column)
        if dated:
            column = pc.cast(column, pa.int64())
        elif not (types.is_integer(column.type) or types.is_floating(column.type)):
            raise DataError(
                self.path, f"column {self.title!r} is of type {column.type}, which is not a time"
            )
        missing = pc.is_null(column, nan_is_null=True).to_numpy(zero_copy_only=False)
        if missing.any():
            at = start + int(np.flatnonzero(missing)[0])
            raise DataError(
                self.path, f"column {self.title!r} is empty or NaN", line=self.line_of(at)
            )
        values = column.to_numpy(zero_copy_only=False)
        if not dated:
            self._check_unit(values, start)
        return np.asarray(values, np.int64 if values.dtype.kind in "iu" else np.float64)

    def _like_the_first(self, column: Any) -> Any:
        """`column` in the unit of the first block: the parts of a table may differ in it.

        Raises:
            DataError: it is of a kind that does not compare with the first block, or finer.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        self.first = first = self.first or column.type
        stamps = [pa.types.is_timestamp(kind) for kind in (first, column.type)]
        if not any(stamps):
            return column
        try:
            if all(stamps) and (first.tz is None) == (column.type.tz is None):
                return pc.cast(column, first)
        except pa.ArrowInvalid:  # it would lose digits
            pass
        raise DataError(
            self.path,
            f"column {self.title!r} is of type {column.type} after rows of type {first}; write all "
            "parts alike",
        )

    def _check_unit(self, values: NDArray[Any], start: int) -> None:
        """Raises a DataError where seconds, milliseconds ... since 1970 stand in one column."""
        low, high = values.min(), values.max()
        if self.unit and UNITS[self.unit][0] <= low and high < UNITS[self.unit][1]:
            return
        found = {}
        for unit, (least, end) in UNITS.items():
            inside = (values >= least) & (values < end)
            if inside.any():
                found[unit] = int(np.argmax(inside))
        for unit, at in sorted(found.items(), key=lambda entry: entry[1]):
            self.unit = self.unit or unit
            if unit != self.unit:
                raise DataError(
                    self.path,
                    f"column {self.title!r} has {values[at]}, which seems to be {unit} where times "
                    f"before are {self.unit}; write all in one unit",
                    line=self.line_of(start + at),
                )

    def _parsed(self, column: Any, start: int) -> Any:
        """A column of texts as numbers or timestamps, all blocks alike."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kinds = [pa.int64(), pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")]
        if self.kind is not None:
            kinds = kinds[:2] if self.kind in kinds[:2] else [self.kind]
        for kind in kinds:
            try:
                parsed = pc.cast(column, kind)
            except pa.ArrowInvalid:
                continue
            # A block without any value says nothing about the kind.
            self.kind = self.kind or (kind if parsed.null_count < len(parsed) else None)
            return parsed
        at, text = self._first_bad(column, kinds)
        raise DataError(
            self.path,
            f"column {self.title!r} has {text[:200]!r}, which is not a time like the ones before",
            line=self.line_of(start + at),
        )

    @staticmethod
    def _first_bad(column: Any, kinds: list[Any]) -> tuple[int, str]:
        """The first value that none of the kinds that read the most values before it can read."""
        import pyarrow as pa

        left = list(kinds)
        for at, value in enumerate(column):
            readable = []
            for kind in left:
                try:
                    value.cast(kind)
                except pa.ArrowInvalid:
                    continue
                readable.append(kind)
            if not readable:
                return at, value.as_py()
            left = readable
        raise AssertionError("a column that cannot be read has no bad value")


def _require(path: Path, wanted: list[str], present: list[str]) -> None:
    missing = [name for name in wanted if name not in present]
    if missing:
        raise DataError(
            path,
            f"column {', '.join(map(repr, missing))} is missing; it has {', '.join(present)}"
            f"{_look_of_header(path, present) or nearest(missing[0], present)}",
        )
    twice = [name for name in wanted if present.count(name) > 1]
    if twice:
        raise DataError(path, f"several columns are named {twice[0]!r}; rename all but one")


def _header(path: Path) -> str:
    """The first line of a CSV."""
    return next(utf8_lines(path), (1, ""))[1]


def _check_separator(path: Path) -> None:
    """Raises a DataError where the header shows that its columns are separated otherwise."""
    header = _header(path)
    used = delimiter(path)
    others = [mark for mark in ("::", "\t", ";", "|", ",") if mark != used]
    found = next((mark for mark in others if mark in header), None)
    if used in header or found is None:
        return
    remedy = "name it .tsv" if found == "\t" else f"write it with {used!r}, or as Parquet"
    raise DataError(
        path,
        f"the columns seem to be separated by {found!r}, not by {used!r}: {remedy}",
        line=1,
    )


def _look_of_header(path: Path, present: list[str]) -> str:
    """A word on a header that looks like data; nothing where it looks right."""
    if path.suffix == ".parquet":
        return ""
    if any(name.strip().lstrip("-").replace(".", "", 1).isdigit() for name in present):
        return "; the first line is taken for the header and looks like data: put one above it"
    return ""


def nearest(name: str, present: Iterable[str]) -> str:
    """A question after the name that is most alike, or nothing."""
    found = difflib.get_close_matches(name, list(present), 1)
    return f"; did you mean {found[0]!r}?" if found else ""
