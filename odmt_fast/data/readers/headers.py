"""What is told of a table whose header is not as expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from odmt_fast.data.errors import DataError, place
from odmt_fast.data.readers.csv_format import CsvFormat
from odmt_fast.data.readers.lines import utf8_lines

_DELIMITERS = ("::", "\t", ";", "|", ",")
_SHOWN = 300


def check_separator(path: Path, form: CsvFormat) -> None:
    """Raises a DataError where the header shows that its columns are separated otherwise."""
    _, header = next(utf8_lines(path, form.encoding_of(path)), (1, ""))
    used = form.delimiter_of(path)
    others = [mark for mark in _DELIMITERS if mark != used]
    found = next((mark for mark in others if mark in header), None)
    if used in header or found is None:
        return
    remedy = "--delimiter tab, or name it .tsv" if found == "\t" else f"--delimiter {found!r}"
    if form.delimiter is not None:
        remedy = f"--delimiter FILE={form.delimiter!r} to say of which file that is"
    raise DataError(
        path,
        f"the columns seem to be separated by {found!r}, not by {used!r}: pass {remedy}",
        line=1,
    )


def check_columns(
    path: Path, wanted: Sequence[str], present: Sequence[str], flags: Mapping[str, str]
) -> None:
    """Refuses a header that lacks a wanted column, or has it twice.

    Args:
        path: the file.
        wanted: names of columns.
        present: the header.
        flags: name of a column -> the flag that names it.

    Raises:
        DataError: tells all that lack, what there is, what is most alike, and the flags.
    """
    missing = [name for name in wanted if name not in present]
    if missing:
        told = "; ".join(_lacking(name, present, flags) for name in missing)
        raise DataError(
            path,
            f"{told}; it has {', '.join(present)[:_SHOWN]}{_look(path, present)}",
        )
    twice = [name for name in wanted if present.count(name) > 1]
    if twice:
        raise DataError(path, f"several columns are named {twice[0]!r}; rename all but one")


def _lacking(name: str, present: Iterable[str], flags: Mapping[str, str]) -> str:
    flag = f" ({flags[name]} names it)" if name in flags else ""
    return f"column {name!r} is missing{nearest(name, present)}{flag}"


def _look(path: Path, present: Sequence[str]) -> str:
    """A word on a header that looks like something else; nothing where it looks right."""
    if place(path) == "row":
        return ""
    if any(name.strip().lstrip("-").replace(".", "", 1).isdigit() for name in present):
        return "; the first line is taken for the header and looks like data: put one above it"
    if any(len(name) > 1 and name[0] == name[-1] == '"' for name in present):
        return "; its names stand in quotation marks: pass --quotes"
    return ""


def nearest(name: str, present: Iterable[str]) -> str:
    """A question after the names that are most alike, or nothing."""
    by_case = {other.casefold(): other for other in present}
    near = difflib.get_close_matches(name.casefold(), by_case, 2)
    near += [key for key in by_case if name.casefold() in key.replace("-", "_").split("_")]
    found = [repr(by_case[key]) for key in dict.fromkeys(near)][:3]
    return f"; did you mean {' or '.join(found)}?" if found else ""
