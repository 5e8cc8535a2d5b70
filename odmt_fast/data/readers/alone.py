"""A table of interactions with no table of items beside it: sequences of IDs."""

from __future__ import annotations

from pathlib import Path

from odmt_fast.data.filters import Log
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.gather import Source, Titles, gather
from odmt_fast.data.readers.options import TabularOptions, flag
from odmt_fast.data.readers.tabular import blocks, lines_of_rows
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


def tabular_source(path: Path, titles: Titles, options: TabularOptions, part: int = 0) -> Source:
    """The interactions of a CSV or Parquet file."""
    named = {"user": titles.user, "item": titles.item, "timestamp": titles.timestamp}
    flags = {title: flag(name) for name, title in named.items() if title}
    columns = [title for title in (*named.values(), titles.rating) if title]
    faults = Faults(path, lambda rows: lines_of_rows(path, rows, options.form))
    return Source(blocks(path, columns, form=options.form, flags=flags), faults, part)
