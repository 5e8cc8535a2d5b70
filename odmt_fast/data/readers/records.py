"""Lines that each hold one record: JSON, or the Python literals of older collections."""

from __future__ import annotations

import ast
import json
import zlib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from odmt_fast.data.bounds import block_bytes
from odmt_fast.data.errors import DataError
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.lines import open_utf8, require_file, utf8_lines
from odmt_fast.data.readers.recoding import UTF8, is_utf8

BLOCK_BYTES = 32 << 20  # a line must fit; metadata lines reach several MB
LITERAL_ROWS = 8192
LONGEST_LITERAL = 1 << 20
"""Characters of a Python literal; its syntax tree takes some hundred times as many bytes."""
LITERAL_STARTS = ("{'", "{u'", '{u"')


def json_blocks(
    path: Path,
    fields: dict[str, Any],
    *,
    required: tuple[str, ...],
    encoding: str = UTF8,
    loose: bool = False,
) -> Iterator[Any]:
    """Arrow record batches of the named fields of JSON lines; other fields are ignored.

    Args:
        path: the file.
        fields: name -> Arrow type, a string or a list of strings for texts.
        required: fields that no line may lack.
        encoding: of the file.
        loose: a text may be a number and a list may hold lists (slower).

    Raises:
        DataError: lines are no records, lack a required field or hold it as another type; tells
            the first ten of them and how many there are.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    require_file(path)
    if loose or _holds_literals(path, encoding):
        yield from _literal_blocks(path, fields, required, encoding, loose=loose)
        return
    plain = is_utf8(encoding)
    try:
        with (
            pa.input_stream(path, compression="detect")
            if plain
            else pa.input_stream(open_utf8(path, encoding))
        ) as stream:
            reader = arrow_json.open_json(
                stream,
                read_options=arrow_json.ReadOptions(block_size=block_bytes(BLOCK_BYTES)),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore"
                ),
            )
            for block in reader:
                block.validate(full=True)  # the parser lets bytes pass that are not UTF-8
                if any(block[name].null_count for name in required):
                    reason = f"a line lacks {' or '.join(required)}"
                    raise _explain(path, fields, required, reason, encoding)
                yield block
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        raise _explain(path, fields, required, str(error), encoding) from error


def first_record(path: Path, encoding: str = UTF8) -> dict[str, Any]:
    """The first record of `path`; empty where there is none.

    Raises:
        DataError: the file cannot be read, or the line is no record.
    """
    for number, line in utf8_lines(path, encoding):
        if line.strip():
            return _record(path, number, line, literal=line.lstrip().startswith(LITERAL_STARTS))
    return {}


def faults_of_records(path: Path, encoding: str = UTF8) -> Faults:
    """Faults by record (from 0) of `path`."""

    def lines_of(records: Sequence[int]) -> list[int]:
        filled = (number for number, line in utf8_lines(path, encoding) if line.strip())
        wanted = set(records)
        found = {
            at: number for at, number in enumerate(islice(filled, max(wanted) + 1)) if at in wanted
        }
        return [found[record] for record in records]

    return Faults(path, lines_of)


def _holds_literals(path: Path, encoding: str) -> bool:
    """Whether the first line that is not blank begins as a Python dict and not as JSON."""
    filled = (line.lstrip() for _, line in utf8_lines(path, encoding) if line.strip())
    return next(filled, "").startswith(LITERAL_STARTS)


def _record(path: Path, number: int, line: str, *, literal: bool) -> dict[str, Any]:
    """The record of a line.

    Raises:
        DataError: it is neither JSON nor, where `literal`, a Python literal; or no record.
    """
    if literal and len(line) > LONGEST_LITERAL:
        raise DataError(
            path, f"a Python literal of more than {LONGEST_LITERAL:,} characters", line=number
        )
    try:
        record = ast.literal_eval(line.strip()) if literal else json.loads(line)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        kind = "a Python literal" if literal else "JSON"
        raise DataError(path, f"not {kind}: {error}", line=number) from error
    if not isinstance(record, dict):
        kind = "a Python dict" if literal else "a JSON object"
        raise DataError(path, f"not {kind}", line=number)
    return record


def _literal_blocks(
    path: Path,
    fields: dict[str, Any],
    required: tuple[str, ...],
    encoding: str,
    *,
    loose: bool,
) -> Iterator[Any]:
    """As `json_blocks`; a line may be JSON all the same."""
    import pyarrow as pa

    faults = Faults(path)
    filled = ((number, line) for number, line in utf8_lines(path, encoding) if line.strip())
    while block := list(islice(filled, LITERAL_ROWS)):
        rows: list[list[Any]] = []
        for number, line in block:
            literal = line.lstrip().startswith(LITERAL_STARTS)
            try:
                record = _record(path, number, line, literal=literal)
                rows.append(
                    [
                        _value(path, number, record, name, kind, name in required, loose)
                        for name, kind in fields.items()
                    ]
                )
            except DataError as error:
                faults.tell(number, error.reason)
        if not faults.count:
            arrays = [
                pa.array([row[at] for row in rows], kind) for at, kind in enumerate(fields.values())
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=list(fields))
    faults.check()


def _value(
    path: Path,
    number: int,
    record: dict[str, Any],
    name: str,
    kind: Any,
    required: bool,
    loose: bool = False,
) -> Any:
    """Field `name` of a record, nested lists made flat where `kind` is a list.

    Where `loose`, a number is a text too.

    Raises:
        DataError: it is missing though `required`, or is no `kind`.
    """
    import pyarrow as pa

    value = record.get(name)
    if value is None and required:
        raise DataError(path, f"field {name!r} is missing", line=number)
    if value is not None and pa.types.is_list(kind):
        value = _flat(value)
    if loose and pa.types.is_string(kind) and isinstance(value, int | float):
        value = str(value)
    try:
        pa.scalar(value, kind)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError) as error:
        shown = _shown(value)
        raise DataError(path, f"field {name!r} is {shown}, expected {kind}", line=number) from error
    return value


def _shown(value: Any) -> str:
    try:
        return repr(value)[:200]
    except ValueError:  # Python does not write integers of more than 4,300 digits
        return f"an integer of {value.bit_length():,} bits" if isinstance(value, int) else "a value"


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [part for inner in value for part in _flat(inner)]
    return [value]


def _explain(
    path: Path, fields: dict[str, Any], required: tuple[str, ...], reason: str, encoding: str
) -> DataError:
    """The error for a file the fast parser refused: the bad lines, else `reason`."""
    faults = Faults(path)
    try:
        for number, line in utf8_lines(path, encoding):
            if not line.strip():
                continue
            try:
                record = _record(path, number, line, literal=False)
                for name, kind in fields.items():
                    _value(path, number, record, name, kind, name in required)
            except DataError as error:
                faults.tell(number, error.reason)
        faults.check()
    except DataError as error:
        return error
    except (OSError, EOFError) as error:
        return DataError(path, str(error))
    return DataError(path, reason)
