"""A table of interactions with no table of items beside it: sequences of IDs."""

from __future__ import annotations

from pathlib import Path

from odmt_fast.data.filters import Log
from odmt_fast.data.readers.gather import Titles, gather, tabular_source
from odmt_fast.data.readers.options import TabularOptions
from odmt_fast.data.report import Report

_TABLES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", ".json", ".jsonl", ".xlsx", ".txt")


def lies_alone(table: Path) -> bool:
    """Whether no other file in its folder might be a table of items."""
    others = (path for path in table.parent.iterdir() if path != table and path.name[0] != ".")
    return not any(path.name.endswith(_TABLES) for path in others)


def read_alone(table: Path, titles: Titles, images: Path | None, options: TabularOptions) -> Log:
    """Reads `table`; the items are those that occur in it.

    Raises:
        DataError: the file or a column is missing, or a value is missing or malformed.
    """
    return gather(
        [tabular_source(table, titles, options)],
        titles,
        None,
        images,
        Report(kind="table, no items", source=str(table.parent)),
        options,
        time_unit=options.time_unit,
    )
