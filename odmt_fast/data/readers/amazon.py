"""Amazon Reviews 2014, 2018 and 2023: reviews and metadata as lines, the user's own pictures.

Lines are JSON, or Python literals (metadata of 2014). The fields tell the edition: reviewerID,
asin, unixReviewTime (2014, 2018), or user_id, parent_asin, timestamp (2023). The published metadata
lists some items twice and lacks others, so repeated rows (the first is kept) and reviews
of unlisted items (dropped) are counted rather than refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.columns import InteractionColumns, Ordered, Unknown
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.records import first_record, json_blocks, line_of_record
from odmt_fast.data.readers.table import images_folder, join_texts
from odmt_fast.data.readers.tabular import TimeColumn, names, nearest
from odmt_fast.data.report import Report

SUFFIXES = (".json.gz", ".json", ".jsonl.gz", ".jsonl")
NUMBERS = ("price", "average_rating", "rating_number")  # numbers in some editions and lines
LISTS = ("category", "categories", "description", "feature", "features")


@dataclass(frozen=True)
class Layout:
    """The names of the fields in one edition of the collection.

    Attributes:
        edition: as reports show it.
        user: field of a review.
        item: field of a review and of the metadata.
        timestamp: field of a review: integers of one unit.
    """

    edition: str
    user: str
    item: str
    timestamp: str


LAYOUTS = (
    Layout("2014/2018", "reviewerID", "asin", "unixReviewTime"),
    Layout("2023", "user_id", "parent_asin", "timestamp"),
)


@dataclass(frozen=True)
class AmazonOptions:
    """Names of files and what to take.

    Attributes:
        reviews: the file of reviews; None takes the one JSON file that is not the metadata.
        metadata: the file of metadata; None takes the one JSON file named ``meta_*``.
        texts: metadata fields whose texts are joined by ". ", such as title, brand (2023: store),
            categories (2018: category), price; lists are joined likewise.
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
    layout = _layout(reviews)
    ids, texts, repeated = _read_metadata(metadata, layout.item, options.texts)
    matches = match_images(images_folder(path, options.images), ids)
    ordered, n_read = _read_reviews(reviews, layout, ids, metadata, options.unknown_items)
    return Log(
        users=ordered.users,
        items=ItemTable(ids, texts, matches.images),
        sequences=ordered.sequences,
        repeated=ordered.repeated,
        report=Report(
            kind=f"amazon {layout.edition}",
            source=str(path),
            interactions_read=n_read,
            repeated_items=repeated,
            **ordered.counts(),
            **matches.counts,
        ),
    )


def _layout(path: Path) -> Layout:
    """The edition whose fields the first review has; the older one where that says nothing."""
    record = first_record(path)
    found = [layout for layout in LAYOUTS if layout.user in record and layout.item in record]
    return found[0] if found else LAYOUTS[0]


def _read_reviews(
    path: Path, layout: Layout, ids: tuple[str, ...], metadata: Path, unknown: Unknown
) -> tuple[Ordered, int]:
    import pyarrow as pa

    fields = {layout.user: pa.string(), layout.item: pa.string(), layout.timestamp: pa.int64()}
    line_of = partial(line_of_record, path)
    gathered, times, n_read = InteractionColumns(), TimeColumn(path, layout.timestamp, line_of), 0
    for block in json_blocks(path, fields, required=tuple(fields)):
        gathered.add(
            names(block[layout.user], path, layout.user, n_read, line_of),
            names(block[layout.item], path, layout.item, n_read, line_of),
            times.numbers(block[layout.timestamp], n_read),
        )
        n_read += block.num_rows
    ordered = gathered.finish(ids, path=path, table=metadata, unknown=unknown, line_of=line_of)
    return ordered, n_read


def _read_metadata(
    path: Path, item_id: str, columns: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str | None, ...], int]:
    """Item names, their joined texts, and how many rows repeat an item."""
    import pyarrow as pa

    kinds = {name: pa.list_(pa.string()) if name in LISTS else pa.string() for name in columns}
    texts: dict[str, str | None] = {}
    n_read, absent = 0, list(columns)
    loose = bool({*NUMBERS, "categories"} & set(columns))  # categories of 2014 are lists of lists
    fields = {item_id: pa.string(), **kinds}
    for block in json_blocks(path, fields, required=(item_id,), loose=loose):
        n_read += block.num_rows
        absent = [name for name in absent if block[name].null_count == block.num_rows]
        parts = [_flat_texts(block[name].to_pylist()) for name in columns]
        rows = zip(*parts, strict=True) if parts else ((),) * block.num_rows
        for item, values in zip(block[item_id].to_pylist(), rows, strict=True):
            texts.setdefault(item, join_texts(values))
    if absent and n_read:
        present = list(first_record(path))
        raise DataError(
            path,
            f"no line has the field {absent[0]!r}; the first has {', '.join(present)[:300]}"
            f"{nearest(absent[0], present)} (--option texts=...)",
        )
    return tuple(texts), tuple(texts.values()), n_read - len(texts)


def _flat_texts(values: list[Any]) -> list[str | None]:
    return [join_texts(tuple(v)) if isinstance(v, list) else v for v in values]


def _choose(folder: Path, name: str | None, *, metadata: bool) -> Path:
    if name is not None:
        return folder / name
    found = json_files(folder, metadata=metadata)
    what = "metadata (meta_*.json.gz)" if metadata else "reviews (*.json.gz)"
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(folder, f"expected one file of {what}, found {names}; name one of them")
    return found[0]
