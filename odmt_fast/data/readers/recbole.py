"""RecBole's atomic files: ``<name>.inter`` and ``<name>.item``, columns separated by TAB.

The header gives names and types (``user_id:token``, ``title:token_seq``, ``timestamp:float``).
Three files ``<name>.train.inter``, ``.valid.inter`` and ``.test.inter`` are a split, which is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.readers.catalogue import Catalogue, read_catalogue
from odmt_fast.data.readers.delimited import delimited_blocks, faults_of, filled_lines
from odmt_fast.data.readers.gather import Source, Titles, gather
from odmt_fast.data.readers.headers import nearest
from odmt_fast.data.readers.options import ReaderOptions
from odmt_fast.data.readers.ready_made import part_files
from odmt_fast.data.readers.table import images_folder
from odmt_fast.data.readers.times import TimeUnit
from odmt_fast.data.report import Report

TYPES = ("token", "token_seq", "float", "float_seq")
TEXTS = ("title", "movie_title", "product_name", "item_name", "name")
SUFFIXES = ("", ".gz")


@dataclass(frozen=True, kw_only=True)
class RecBoleOptions(ReaderOptions):
    """Names of fields, without their types, and what to take.

    Attributes:
        user: field of the user.
        item: field of the item, in both files.
        timestamp: field of the time; a file without it keeps its order.
        rating: field that `min_rating` looks at.
        min_rating: interactions rated lower are left out and counted; 0 leaves none out.
        texts: fields of the .item file joined by ". "; empty takes the first of title, movie_title,
            product_name, item_name and name that is there.
        images: a folder of <item>.jpg or an LMDB; None takes ``images/`` if it is there.
        time_unit: unit of the times; see `TimeColumn`.
    """

    user: str = "user_id"
    item: str = "item_id"
    timestamp: str = "timestamp"
    rating: str = "rating"
    min_rating: float = 0.0
    texts: tuple[str, ...] = ()
    images: str | None = None
    time_unit: TimeUnit = "auto"


def fits(folder: Path) -> bool:
    """Whether `folder` looks like this layout."""
    return bool(files(folder, "inter"))


def files(folder: Path, kind: str) -> list[Path]:
    """The files ``*.<kind>`` of `folder`, gzipped ones too."""
    found = (path for suffix in SUFFIXES for path in folder.glob(f"*.{kind}{suffix}"))
    return sorted(path for path in found if path.name[0] != ".")


def read_recbole(path: Path, options: RecBoleOptions) -> Log:
    """Reads the folder `path`; without an .item file the items are those of the interactions.

    Raises:
        DataError: a file or a field is missing; a value is missing or malformed; an item is listed
            twice; an item is unknown and `options.unknown_items` is "error".
    """
    interactions = files(path, "inter")
    parts = part_files(interactions)
    if parts is None and len(interactions) != 1:
        shown = ", ".join(file.name for file in interactions) or "none"
        raise DataError(
            path,
            f"expected one .inter file, or those of a split (.train, .valid, .test), found "
            f"{shown}; move the others away",
        )
    items = files(path, "item")
    if len(items) > 1:
        shown = ", ".join(file.name for file in items)
        raise DataError(path, f"expected one .item file, found {shown}; move the others away")
    options.check_files(*(parts or interactions), *items)
    catalogue = _catalogue(items[0], options) if items else None
    headers = {file: _header(file, options) for file in parts or interactions}
    untimed = [file for file, header in headers.items() if options.timestamp not in header]
    if untimed and (len(untimed) < len(headers) or options.timestamp != "timestamp"):
        raise DataError(untimed[0], _missing(options.timestamp, headers[untimed[0]]), line=1)
    titles = Titles(
        options.user,
        options.item,
        None if untimed else options.timestamp,
        options.rating if options.min_rating > 0 else None,
    )
    wanted = [titles.user, titles.item, *([titles.rating] if titles.rating else [])]
    sources = []
    for number, (file, header) in enumerate(headers.items()):
        for name in wanted:
            if name not in header:
                raise DataError(file, _missing(name, header), line=1)
        if lists := [name for name in header if name.startswith(f"{titles.item}_list")]:
            raise DataError(
                file,
                f"rows carry a history of their own ({lists[0]}); write one interaction a row",
                line=1,
            )
        encoding = options.encoding_of(file)
        blocks = delimited_blocks(file, "\t", header, header=True, encoding=encoding)
        sources.append(Source(blocks, faults_of(file, header=True, encoding=encoding), number))
    said = "" if not untimed else ", in the order of the file"
    return gather(
        sources,
        titles,
        catalogue,
        images_folder(path, options.images),
        Report(kind=f"recbole{'' if items else ', no items'}{said}", source=str(path)),
        options,
        min_rating=options.min_rating,
        time_unit=options.time_unit,
    )


def _header(path: Path, options: RecBoleOptions) -> tuple[str, ...]:
    """The names of the fields."""
    number, line = next(filled_lines(path, options.encoding_of(path)), (1, ""))
    found = [title.rpartition(":") for title in line.split("\t")]
    for name, _, kind in found:
        if not name or kind not in TYPES:
            raise DataError(
                path,
                f"{(name or kind)[:200]!r} in the header has no type; expected name:type with one "
                f"of {', '.join(TYPES)}, separated by TAB",
                line=number,
            )
    header = tuple(name.strip() for name, _, _ in found)
    if twice := [name for name in header if header.count(name) > 1]:
        raise DataError(path, f"several fields are named {twice[0]!r}", line=number)
    return header


def _missing(name: str, header: tuple[str, ...]) -> str:
    return (
        f"field {name!r} is missing; it has {', '.join(header)}{nearest(name, header)} "
        "(--user-column, --item-column, --time-column, --text-columns, --option rating=)"
    )


def _catalogue(path: Path, options: RecBoleOptions) -> Catalogue:
    header = _header(path, options)
    texts = options.texts or tuple(name for name in TEXTS if name in header)[:1]
    for name in (options.item, *texts):
        if name not in header:
            raise DataError(path, _missing(name, header), line=1)
    if not texts and len(header) > 1:
        raise DataError(
            path,
            f"none of its fields is {', '.join(TEXTS)}; name the texts among {', '.join(header)} "
            "with --text-columns",
            line=1,
        )
    encoding = options.encoding_of(path)
    blocks = delimited_blocks(path, "\t", header, header=True, encoding=encoding)
    return read_catalogue(
        (
            (block[options.item], [block[name].to_pylist() for name in texts], None)
            for block in blocks
        ),
        options.item,
        faults_of(path, header=True, encoding=encoding),
        options,
    )
