"""A table of interactions with no table of items beside it: sequences of IDs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from odmt_fast.data.filters import Log
from odmt_fast.data.readers.gather import Source, Titles, gather
from odmt_fast.data.readers.tabular import blocks, line_of_row
from odmt_fast.data.report import Report

_TABLES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".json", ".jsonl", ".xlsx", ".txt")


def lies_alone(table: Path) -> bool:
    """Whether no other file in its folder might be a table of items."""
    others = (path for path in table.parent.iterdir() if path != table and path.name[0] != ".")
    return not any(path.name.endswith(_TABLES) for path in others)


def read_alone(table: Path, titles: Titles, images: Path | None) -> Log:
    """Reads `table`; the items are those that occur in it.

    Raises:
        DataError: the file or a column is missing, or a value is missing or malformed.
    """
    columns = tuple(name for name in (titles.user, titles.item, titles.timestamp) if name)
    return gather(
        [Source(table, blocks(table, columns), partial(line_of_row, table))],
        titles,
        None,
        images,
        Report(kind="table, no items", source=str(table.parent)),
        unknown="error",
    )
