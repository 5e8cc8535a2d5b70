"""Text tables without quoting whose columns are separated by one mark: MovieLens, RecBole."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.lines import open_binary, utf8_lines
from odmt_fast.data.readers.recoding import UTF8

ROWS = 1 << 16
LETTERS = 16 << 20
LATIN = "iso-8859-1"
_CHUNK = 1 << 20


def delimited_blocks(
    path: Path, separator: str, titles: tuple[str, ...], *, header: bool, encoding: str = UTF8
) -> Iterator[Any]:
    """Arrow record batches of texts; blank lines are skipped, empty fields are null.

    Args:
        path: the file; through gzip where its name ends in .gz.
        separator: between the columns.
        titles: names of all columns, in order.
        header: whether the first line that is not blank names columns instead of holding values.
        encoding: of the file.

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
        _check_widths(path, separator, titles, [number for number, _ in block], counts)
        flat = rows.flatten().cast(pa.string())
        flat = pc.if_else(pc.equal(flat, ""), pa.scalar(None, pa.string()), flat)
        at = np.arange(len(block)) * len(titles)
        columns = [flat.take(pa.array(at + place)) for place in range(len(titles))]
        yield pa.RecordBatch.from_arrays(columns, names=list(titles))


def _check_widths(
    path: Path,
    separator: str,
    titles: tuple[str, ...],
    lines: list[int],
    counts: NDArray[np.int32],
) -> None:
    """Raises a DataError that tells the lines with another number of columns."""
    faults = Faults(path)
    found = {lines[row]: counts[row] for row in np.flatnonzero(counts != len(titles)).tolist()}
    faults.add(
        found,
        lambda line: (
            f"{found[line]} columns separated by {separator!r}, expected {len(titles)} "
            f"({', '.join(titles)[:200]})"
        ),
    )
    faults.check()


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


def filled_lines(path: Path, encoding: str = UTF8) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are not blank."""
    return ((number, line) for number, line in utf8_lines(path, encoding) if line.strip())


def encoding_of(path: Path) -> str:
    """`UTF8` where the whole file is, else `LATIN`, in which every file can be read."""
    decoder = codecs.getincrementaldecoder(UTF8)()
    with open_binary(path) as file:
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return LATIN
        except (OSError, EOFError, zlib.error):
            pass  # whoever reads it says what is wrong
    return UTF8


def faults_of(path: Path, *, header: bool, encoding: str = UTF8) -> Faults:
    """Faults by data row (from 0) of `path`."""

    def lines_of(rows: Sequence[int]) -> list[int]:
        numbers = (number for number, _ in filled_lines(path, encoding))
        found = list(islice(numbers, max(rows) + header + 1))
        return [found[row + header] for row in rows]

    return Faults(path, lines_of)
