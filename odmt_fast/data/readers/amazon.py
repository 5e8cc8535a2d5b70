"""Amazon Reviews 2014, 2018 and 2023: reviews and metadata as lines, the user's own pictures.

Lines are JSON, or Python literals (metadata of 2014). The fields tell the edition: reviewerID,
asin, unixReviewTime (2014, 2018), or user_id, parent_asin, timestamp (2023). The published metadata
lists some items twice and lacks others, so repeated rows (the first is kept) and reviews
of unlisted items (dropped) are counted rather than refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.readers.catalogue import record_catalogue
from odmt_fast.data.readers.gather import Source, Titles, gather
from odmt_fast.data.readers.headers import nearest
from odmt_fast.data.readers.options import ReaderOptions, Rule, flag
from odmt_fast.data.readers.records import faults_of_records, first_record, json_blocks
from odmt_fast.data.readers.table import images_folder
from odmt_fast.data.readers.times import TimeUnit
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


@dataclass(frozen=True, kw_only=True)
class AmazonOptions(ReaderOptions):
    """Names of files and what to take.

    Attributes:
        reviews: the file of reviews; None takes the one JSON file that is not the metadata.
        metadata: the file of metadata; None takes the one JSON file named ``meta_*``.
        user: field of the user; None takes that of the edition.
        item: field of the item, in both files; None takes that of the edition.
        timestamp: field of the time; None takes that of the edition.
        texts: metadata fields whose texts are joined by ". ", such as title, brand (2023: store),
            categories (2018: category), price; lists are joined likewise.
        images: a folder of <asin>.jpg or an LMDB; None takes ``images/`` if it is there.
        unknown_items: as in `ReaderOptions`, but "drop" unless asked otherwise.
        time_unit: unit of the times; see `TimeColumn`.
    """

    reviews: str | None = None
    metadata: str | None = None
    user: str | None = None
    item: str | None = None
    timestamp: str | None = None
    texts: tuple[str, ...] = ("title",)
    images: str | None = None
    unknown_items: Rule = "drop"
    time_unit: TimeUnit = "auto"


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
    options.check_files(reviews, metadata)
    layout = _layout(reviews, options)
    catalogue = record_catalogue(
        metadata,
        layout.item,
        options.texts,
        options,
        lists=LISTS,
        between=". ",
        # The categories of 2014 are lists of lists.
        loose=bool({*NUMBERS, "categories"} & set(options.texts)),
    )
    titles = Titles(layout.user, layout.item, layout.timestamp)
    return gather(
        [_reviews(reviews, layout, options)],
        titles,
        catalogue,
        images_folder(path, options.images),
        Report(kind=f"amazon {layout.edition}", source=str(path)),
        options,
        time_unit=options.time_unit,
    )


def _layout(path: Path, options: AmazonOptions) -> Layout:
    """The edition whose fields the first review has, the older one where that says nothing.

    Raises:
        DataError: the first review lacks a field that the options name.
    """
    record = first_record(path, options.encoding_of(path))
    found = [layout for layout in LAYOUTS if layout.user in record and layout.item in record]
    named = {
        name: value
        for name in ("user", "item", "timestamp")
        if (value := getattr(options, name)) is not None
    }
    for name, value in named.items():
        if record and value not in record:
            raise DataError(
                path,
                f"the first line has no field {value!r}{nearest(value, record)}; it has "
                f"{', '.join(record)[:300]} ({flag(name)})",
            )
    return replace(found[0] if found else LAYOUTS[0], **named)


def _reviews(path: Path, layout: Layout, options: AmazonOptions) -> Source:
    import pyarrow as pa

    fields = {layout.user: pa.string(), layout.item: pa.string(), layout.timestamp: pa.int64()}
    encoding = options.encoding_of(path)
    blocks = json_blocks(path, fields, required=(layout.timestamp,), encoding=encoding)
    return Source(blocks, faults_of_records(path, encoding))


def _choose(folder: Path, name: str | None, *, metadata: bool) -> Path:
    if name is not None:
        return folder / name
    found = json_files(folder, metadata=metadata)
    what = "metadata (meta_*.json.gz)" if metadata else "reviews (*.json.gz)"
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(folder, f"expected one file of {what}, found {names}; name one of them")
    return found[0]
