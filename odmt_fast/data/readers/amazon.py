"""Amazon Reviews 2018: reviews and metadata as JSON lines (usually .gz), the user's own pictures.

Reviews have reviewerID, asin, unixReviewTime; metadata has asin, title and more. The published
metadata lists some items twice and lacks others, so repeated rows (the first is kept) and reviews
of unlisted items (dropped) are counted rather than refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.columns import InteractionColumns, Ordered, Unknown
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.lines import require_file, utf8_lines
from odmt_fast.data.readers.table import images_folder, join_texts
from odmt_fast.data.readers.tabular import nearest
from odmt_fast.data.report import Report

SUFFIXES = (".json.gz", ".json", ".jsonl.gz", ".jsonl")
LISTS = ("category", "description", "feature")
BLOCK_BYTES = 32 << 20  # a line must fit; metadata lines reach several MB


@dataclass(frozen=True)
class AmazonOptions:
    """Names of files and what to take.

    Attributes:
        reviews: the file of reviews; None takes the one JSON file that is not the metadata.
        metadata: the file of metadata; None takes the one JSON file named ``meta_*``.
        texts: metadata fields whose texts are joined by ". "; lists (category, description,
            feature) are joined likewise.
        images: a folder of <asin>.jpg or an LMDB; None takes ``images/`` if it is there.
        unknown_items: "drop" leaves out reviews of items the metadata lacks and counts them,
            "error" refuses them.
    """

    reviews: str | None = None
    metadata: str | None = None
    texts: tuple[str, ...] = ("title",)
    images: str | None = None
    unknown_items: Unknown = "drop"


def json_files(folder: Path, *, metadata: bool) -> list[Path]:
    """The JSON files of `folder` named ``meta_*``, or those not named so."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.endswith(SUFFIXES) and path.name.startswith("meta") == metadata
    )


def read_amazon(path: Path, options: AmazonOptions) -> Log:
    """Reads the folder `path`.

    Raises:
        DataError: a file is missing, a line is not JSON or lacks a field, or an item is unknown
            and `options.unknown_items` is "error".
    """
    reviews = _choose(path, options.reviews, metadata=False)
    metadata = _choose(path, options.metadata, metadata=True)
    ids, texts, repeated = _read_metadata(metadata, options.texts)
    matches = match_images(images_folder(path, options.images), ids)
    ordered, n_read = _read_reviews(reviews, ids, metadata, options.unknown_items)
    return Log(
        users=ordered.users,
        items=ItemTable(ids, texts, matches.images),
        sequences=ordered.sequences,
        repeated=ordered.repeated,
        report=Report(
            kind="amazon",
            source=str(path),
            interactions_read=n_read,
            repeated_items=repeated,
            **ordered.counts(),
            **matches.counts,
        ),
    )


def _read_reviews(
    path: Path, ids: tuple[str, ...], metadata: Path, unknown: Unknown
) -> tuple[Ordered, int]:
    import pyarrow as pa

    fields = {"reviewerID": pa.string(), "asin": pa.string(), "unixReviewTime": pa.int64()}
    gathered, n_read = InteractionColumns(), 0
    for block in _json_blocks(path, fields, required=tuple(fields)):
        times = block["unixReviewTime"].to_numpy()
        gathered.add(block["reviewerID"], block["asin"], times.astype(np.int64))
        n_read += block.num_rows
    ordered = gathered.finish(
        ids, path=path, table=metadata, unknown=unknown, line_of=partial(_line_of_record, path)
    )
    return ordered, n_read


def _read_metadata(
    path: Path, columns: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str | None, ...], int]:
    """Item names, their joined texts, and how many rows repeat an item."""
    import pyarrow as pa

    kinds = {name: pa.list_(pa.string()) if name in LISTS else pa.string() for name in columns}
    texts: dict[str, str | None] = {}
    n_read, absent = 0, list(columns)
    for block in _json_blocks(path, {"asin": pa.string(), **kinds}, required=("asin",)):
        n_read += block.num_rows
        absent = [name for name in absent if block[name].null_count == block.num_rows]
        parts = [_flat_texts(block[name].to_pylist()) for name in columns]
        rows = zip(*parts, strict=True) if parts else ((),) * block.num_rows
        for item, values in zip(block["asin"].to_pylist(), rows, strict=True):
            texts.setdefault(item, join_texts(values))
    if absent and n_read:
        _, first = next(line for line in utf8_lines(path) if line[1].strip())
        present = list(json.loads(first))
        raise DataError(
            path,
            f"no line has the field {absent[0]!r}; the first has {', '.join(present)[:300]}"
            f"{nearest(absent[0], present)} (--option texts=...)",
        )
    return tuple(texts), tuple(texts.values()), n_read - len(texts)


def _flat_texts(values: list[Any]) -> list[str | None]:
    return [join_texts(tuple(v)) if isinstance(v, list) else v for v in values]


def _json_blocks(path: Path, fields: dict[str, Any], *, required: tuple[str, ...]) -> Any:
    """Arrow record batches of the named fields of JSON lines; other fields are ignored."""
    import pyarrow as pa
    from pyarrow import json as arrow_json

    require_file(path)
    try:
        with pa.input_stream(path, compression="detect") as stream:
            reader = arrow_json.open_json(
                stream,
                read_options=arrow_json.ReadOptions(block_size=BLOCK_BYTES),
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


def _explain(
    path: Path, fields: dict[str, Any], required: tuple[str, ...], reason: str
) -> DataError:
    """The error for a file the fast parser refused: the first bad line, else `reason`."""
    import pyarrow as pa

    try:
        for number, line in utf8_lines(path):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                return DataError(path, f"not JSON: {error}", line=number)
            if not isinstance(record, dict):
                return DataError(path, "not a JSON object", line=number)
            for name, kind in fields.items():
                value = record.get(name)
                if value is None and name in required:
                    return DataError(path, f"field {name!r} is missing", line=number)
                try:
                    pa.scalar(value, kind)
                except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError):
                    return DataError(
                        path, f"field {name!r} is {value!r}, expected {kind}", line=number
                    )
    except DataError as error:
        return error
    except (OSError, EOFError) as error:
        return DataError(path, str(error))
    return DataError(path, reason)


def _line_of_record(path: Path, record: int) -> int:
    filled = (number for number, line in utf8_lines(path) if line.strip())
    return next(number for at, number in enumerate(filled) if at == record)


def _choose(folder: Path, name: str | None, *, metadata: bool) -> Path:
    if name is not None:
        return folder / name
    found = json_files(folder, metadata=metadata)
    what = "metadata (meta_*.json.gz)" if metadata else "reviews (*.json.gz)"
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(folder, f"expected one file of {what}, found {names}; name one of them")
    return found[0]
