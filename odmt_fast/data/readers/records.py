"""Lines that each hold one record: JSON, or the Python literals of older collections."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from odmt_fast.data.bounds import block_bytes
from odmt_fast.data.errors import DataError
from odmt_fast.data.readers.lines import require_file, utf8_lines

BLOCK_BYTES = 32 << 20  # a line must fit; metadata lines reach several MB
LITERAL_ROWS = 8192
LONGEST_LITERAL = 1 << 20
"""Characters of a Python literal; its syntax tree takes some hundred times as many bytes."""
LITERAL_STARTS = ("{'", "{u'", '{u"')


def json_blocks(path: Path, fields: dict[str, Any], *, required: tuple[str, ...]) -> Any:
    """Arrow record batches of the named fields of JSON lines; other fields are ignored."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    require_file(path)
    if _holds_literals(path):
        yield from _literal_blocks(path, fields, required)
        return
    try:
        with pa.input_stream(path, compression="detect") as stream:
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
                    raise _explain(path, fields, required, f"a line lacks {' or '.join(required)}")
                yield block
    except (pa.ArrowException, OSError) as error:
        raise _explain(path, fields, required, str(error)) from error


def first_record(path: Path) -> dict[str, Any]:
    """The first record of `path`; empty where there is none.

    Raises:
        DataError: the file cannot be read, or the line is no record.
    """
    for number, line in utf8_lines(path):
        if line.strip():
            return _record(path, number, line, literal=line.lstrip().startswith(LITERAL_STARTS))
    return {}


def _holds_literals(path: Path) -> bool:
    """Whether the first line that is not blank begins as a Python dict and not as JSON."""
    filled = (line.lstrip() for _, line in utf8_lines(path) if line.strip())
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


def _literal_blocks(path: Path, fields: dict[str, Any], required: tuple[str, ...]) -> Iterator[Any]:
    """As `json_blocks`; a line may be JSON all the same."""
    import pyarrow as pa

    filled = ((number, line) for number, line in utf8_lines(path) if line.strip())
    while block := list(islice(filled, LITERAL_ROWS)):
        columns: dict[str, list[Any]] = {name: [] for name in fields}
        for number, line in block:
            literal = line.lstrip().startswith(LITERAL_STARTS)
            record = _record(path, number, line, literal=literal)
            for name, kind in fields.items():
                columns[name].append(_value(path, number, record, name, kind, name in required))
        arrays = [pa.array(columns[name], kind) for name, kind in fields.items()]
        yield pa.RecordBatch.from_arrays(arrays, names=list(fields))


def _value(
    path: Path, number: int, record: dict[str, Any], name: str, kind: Any, required: bool
) -> Any:
    """Field `name` of a record, nested lists made flat where `kind` is a list.

    Raises:
        DataError: it is missing though `required`, or is no `kind`.
    """
    import pyarrow as pa

    value = record.get(name)
    if value is None and required:
        raise DataError(path, f"field {name!r} is missing", line=number)
    if value is not None and pa.types.is_list(kind):
        value = _flat(value)
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
    path: Path, fields: dict[str, Any], required: tuple[str, ...], reason: str
) -> DataError:
    """The error for a file the fast parser refused: the first bad line, else `reason`."""
    import pyarrow as pa

    try:
        for number, line in utf8_lines(path):
            if not line.strip():
                continue
            record = _record(path, number, line, literal=False)
            for name, kind in fields.items():
                value = record.get(name)
                if value is None and name in required:
                    return DataError(path, f"field {name!r} is missing", line=number)
                try:
                    pa.scalar(value, kind)
                except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError):
                    shown = _shown(value)
                    return DataError(
                        path, f"field {name!r} is {shown}, expected {kind}", line=number
                    )
    except DataError as error:
        return error
    except (OSError, EOFError) as error:
        return DataError(path, str(error))
    return DataError(path, reason)


def line_of_record(path: Path, record: int) -> int:
    filled = (number for number, line in utf8_lines(path) if line.strip())
    return next(number for at, number in enumerate(filled) if at == record)
