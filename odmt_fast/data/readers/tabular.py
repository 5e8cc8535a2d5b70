"""CSV and Parquet as a stream of Arrow blocks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from odmt_fast.data.bounds import block_bytes, bounds
from odmt_fast.data.errors import DataError
from odmt_fast.data.readers.csv_format import CsvFormat, check_quotes, csv_lines, explain_csv
from odmt_fast.data.readers.headers import check_columns, check_separator
from odmt_fast.data.readers.lines import require_file, utf8_lines

BLOCK_BYTES = 16 << 20
AS_NAMED = CsvFormat()


def blocks(
    path: Path,
    columns: Sequence[str],
    *,
    quoted_newlines: bool = False,
    form: CsvFormat = AS_NAMED,
    flags: Mapping[str, str] | None = None,
) -> Iterator[Any]:
    """Arrow record batches of the named columns; every column of a CSV comes as text.

    Args:
        path: a .parquet file or folder of such, or a CSV (.csv, .tsv; .gz on top) with a header.
        columns: names of the columns.
        quoted_newlines: a CSV that quotes may have line ends inside quotes (slower).
        form: how a CSV is written.
        flags: name of a column -> the flag of the command line that names it, for errors.

    Raises:
        DataError: the file or a column is missing, or the file cannot be parsed.
    """
    wanted = list(dict.fromkeys(columns))
    if path.suffix != ".parquet":
        yield from _csv_blocks(path, wanted, form, flags or {}, quoted_newlines=quoted_newlines)
        return
    for part in _parts(path) if path.is_dir() else [path]:
        yield from _parquet_blocks(part, wanted, flags or {})


def lines_of_rows(path: Path, rows: Sequence[int], form: CsvFormat = AS_NAMED) -> list[int]:
    """Lines of data rows (ascending, from 0) of a CSV; numbers (from 1) in a Parquet file."""
    if path.suffix == ".parquet":
        return [row + 1 for row in rows]
    return csv_lines(path, form, rows)


def _parts(path: Path) -> list[Path]:
    """The Parquet files of a folder, as Spark and Dask write one table."""
    parts = sorted(part for part in path.rglob("*.parquet") if part.name[0] not in "._")
    if not parts:
        raise DataError(path, "this folder holds no .parquet file")
    return parts


def _parquet_blocks(path: Path, wanted: list[str], flags: Mapping[str, str]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_file(path)
    try:
        with pq.ParquetFile(path) as file:
            bounds().check_table(path, file.metadata.num_columns, file.metadata.num_rows)
            check_columns(path, wanted, file.schema_arrow.names, flags)
            yield from file.iter_batches(columns=wanted)
    # Thrift faults come as plain OSErrors, without the file's name.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(path, f"this is not a readable Parquet file: {error}") from error


def _csv_blocks(
    path: Path,
    wanted: list[str],
    form: CsvFormat,
    flags: Mapping[str, str],
    *,
    quoted_newlines: bool,
) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv

    require_file(path)
    quotes, mark = form.quotes_of(path), form.mark_of(path)
    parse = csv.ParseOptions(
        delimiter=mark,
        quote_char='"' if quotes else False,
        newlines_in_values=quotes and quoted_newlines,
    )

    def source() -> Any:
        if form.is_plain(path):
            return pa.input_stream(path, compression="detect")
        return pa.input_stream(form.open(path))

    try:
        check_separator(path, form)
        _, header_line = next(utf8_lines(path, form.encoding_of(path)), (1, ""))
        bounds().check_table(path, header_line.count(form.delimiter_of(path)) + 1)
        if quotes:
            check_quotes(path, form, spanning=quoted_newlines)
        with source() as stream:
            header = csv.open_csv(stream, parse_options=parse).schema.names
            check_columns(path, wanted, header, flags)
        with source() as stream:
            for block in csv.open_csv(
                stream,
                parse_options=parse,
                read_options=csv.ReadOptions(block_size=block_bytes(BLOCK_BYTES)),
                convert_options=csv.ConvertOptions(
                    column_types=dict.fromkeys(wanted, pa.string()),
                    include_columns=wanted,
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            ):
                plain = mark == form.delimiter_of(path)
                yield block if plain else _restored(block, mark, form, path)
    except (pa.ArrowException, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise explain_csv(path, str(error), form) from error


def _restored(block: Any, mark: str, form: CsvFormat, path: Path) -> Any:
    """`block` with the delimiter inside quoted fields as it was."""
    import pyarrow as pa
    import pyarrow.compute as pc

    delimiter = form.delimiter_of(path)
    columns = [pc.replace_substring(column, mark, delimiter) for column in block.columns]
    return pa.RecordBatch.from_arrays(columns, names=block.schema.names)
