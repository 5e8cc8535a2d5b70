"""Text tables without quoting whose columns are separated by one mark: MovieLens, RecBole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from odmt_fast.data.errors import DataError
from odmt_fast.data.readers.lines import LONGEST_LINE, open_binary, utf8_lines

ROWS = 1 << 16
LETTERS = 16 << 20
LATIN = "iso-8859-1"


def delimited_blocks(
    path: Path, separator: str, titles: tuple[str, ...], *, header: bool, encoding: str = "utf-8"
) -> Iterator[Any]:
    """Arrow record batches of texts; blank lines are skipped, empty fields are null.

    Args:
        path: the file; through gzip where its name ends in .gz.
        separator: between the columns.
        titles: names of all columns, in order.
        header: whether the first line that is not blank names columns instead of holding values.
        encoding: "utf-8" or `LATIN`.

    Raises:
        DataError: a line has another number of columns, or the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = filled_lines(path, encoding)
    if header:
        next(filled, None)
    for block in _blocks(filled):
        rows = pc.split_pattern(pa.array([line for _, line in block], pa.large_string()), separator)
        counts = pc.list_value_length(rows).to_numpy()
        if (wrong := np.flatnonzero(counts != len(titles))).size:
            raise DataError(
                path,
                f"{counts[wrong[0]]} columns separated by {separator!r}, expected {len(titles)} "
                f"({', '.join(titles)[:200]})",
                line=block[wrong[0]][0],
            )
        flat = rows.flatten().cast(pa.string())
        flat = pc.if_else(pc.equal(flat, ""), pa.scalar(None, pa.string()), flat)
        at = np.arange(len(block)) * len(titles)
        columns = [flat.take(pa.array(at + place)) for place in range(len(titles))]
        yield pa.RecordBatch.from_arrays(columns, names=list(titles))


def _blocks(lines: Iterator[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """`lines` in parts of at most `ROWS` and, but for a long one, `LETTERS`."""
    block, letters = [], 0
    for number, line in lines:
        block.append((number, line))
        letters += len(line)
        if len(block) == ROWS or letters > LETTERS:
            yield block
            block, letters = [], 0
    if block:
        yield block


def filled_lines(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank."""
    source = utf8_lines(path) if encoding == "utf-8" else _latin_lines(path)
    return ((number, line) for number, line in source if line.strip())


def encoding_of(path: Path) -> str:
    """ "utf-8" where the whole file is, else `LATIN`, in which every file can be read."""
    try:
        for _ in utf8_lines(path):
            pass
    except DataError as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            return LATIN
        raise
    return "utf-8"


def line_of_row(path: Path, row: int, *, header: bool, encoding: str = "utf-8") -> int:
    """Line of data row `row` (from 0)."""
    numbers = (number for number, _ in filled_lines(path, encoding))
    return next(islice(numbers, row + header, None))


def _latin_lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_binary(path) as file:
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), 1):
            if len(raw) > LONGEST_LINE:
                raise DataError(
                    path, f"this line has more than {LONGEST_LINE >> 20} MiB", line=number
                )
            yield number, raw.decode(LATIN).rstrip("\r\n")
