"""Names and texts of a column, missing ones found and counted."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odmt_fast.data.errors import DataError
from odmt_fast.data.readers.faults import Faults

MISSING = ("nan", "NaN", "NAN", "None", "NULL", "null", "<NA>", "NaT", "N/A", "n/a")
"""What programs write for a value that is not there; no text and no name."""
DROP_MISSING = "--missing-ids drop leaves such rows out and counts them"


def is_missing(name: str | None) -> bool:
    """Whether `name` is none: blank, or one of `MISSING` (two people called "nan" are not one)."""
    return name is None or not name.strip() or name in MISSING


def missing_name(title: str, name: str | None) -> str:
    """What to say of a name that `is_missing`."""
    what = "empty" if name is None or not name.strip() else f"{name!r}, a missing value"
    return f"{title} is {what}"


def names(column: Any, title: str, start: int, faults: Faults, *, refuse: bool = True) -> Any:
    """A column of names as an Arrow string array without nulls, "" where one is missing.

    Args:
        column: texts or integers.
        title: name of the column, for errors.
        start: row of the file (from 0) the column begins at.
        faults: gathers the missing names.
        refuse: whether a missing name is a fault.

    Raises:
        DataError: the column holds something else.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    array = texts(column, faults.path, title)
    blank = pc.equal(pc.utf8_trim_whitespace(array), "")
    bad = pc.fill_null(pc.or_(blank, pc.is_in(array, value_set=pa.array(MISSING))), True)
    if not pc.any(bad).as_py():
        return array
    if refuse:
        rows = np.flatnonzero(bad.to_numpy(zero_copy_only=False)) + start
        faults.add(
            rows.tolist(),
            lambda row: missing_name(f"column {title!r}", array[row - start].as_py()),
            DROP_MISSING,
        )
    return pc.if_else(bad, "", array)


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
class TextJoiner:
    """Makes one text of the parts an item has, and counts what it changed.

    Attributes:
        decoded: texts in which HTML entities were decoded.
        missing: texts of which a part is what programs write for a missing value.
        quoted: texts that stand in quotation marks although their file quotes nothing.
        watch_quotes: whether to count those.
    """

    decoded: int = 0
    missing: int = 0
    quoted: int = 0
    watch_quotes: bool = False

    def join(self, parts: Iterable[str | None]) -> str | None:
        """The parts that say something, joined by ". "; None where none does.

        Blanks are collapsed and HTML entities decoded; what programs write for a missing value is
        none.
        """
        filled = [part for part in parts if part and part.strip()]
        said = [part for part in filled if part.strip() not in MISSING]
        plain = [html.unescape(part) for part in said]
        self.missing += len(said) < len(filled)
        self.decoded += plain != said
        self.quoted += self.watch_quotes and any(map(_in_quotes, said))
        return ". ".join(filter(None, (" ".join(part.split()) for part in plain))) or None

    def counts(self) -> dict[str, int]:
        """As the fields of a report."""
        return {
            "texts_decoded": self.decoded,
            "texts_missing": self.missing,
            "texts_quoted": self.quoted,
        }


def _in_quotes(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] == '"'
