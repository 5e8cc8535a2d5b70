"""Steam: reviews and games as lines, each a Python literal (``{u'username': ...}``) or JSON.

``steam_reviews.json[.gz]`` has username (or user_id), product_id and date;
``steam_games.json[.gz]`` has id, app_name, title, genres, tags, developer, publisher, price. The
published games lack an id in some lines and repeat others, so these are counted, not refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.readers.catalogue import Catalogue
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.gather import Source, Titles, gather
from odmt_fast.data.readers.headers import nearest
from odmt_fast.data.readers.options import ReaderOptions, Rule, flag
from odmt_fast.data.readers.records import first_record, json_blocks, lines_of_records
from odmt_fast.data.readers.table import images_folder
from odmt_fast.data.readers.values import TextJoiner, is_missing
from odmt_fast.data.report import Report

SUFFIXES = (".json.gz", ".json", ".jsonl.gz", ".jsonl")
LISTS = ("genres", "tags", "specs")


@dataclass(frozen=True, kw_only=True)
class SteamOptions(ReaderOptions):
    """Names of files and fields, and what to take.

    Attributes:
        reviews: the file of reviews; None takes the one named ``steam_*reviews*``.
        games: the file of games; None takes the one named ``steam_*games*``.
        user: field of a review; user_id is absent from many.
        texts: fields of a game joined by ". ": app_name, title, genres, tags, specs, developer,
            publisher, price.
        images: a folder of <game>.jpg or an LMDB; None takes ``images/`` if it is there.
        unknown_items: as in `ReaderOptions`, but "drop" unless asked otherwise.
    """

    reviews: str | None = None
    games: str | None = None
    user: str = "username"
    texts: tuple[str, ...] = ("app_name", "genres")
    images: str | None = None
    unknown_items: Rule = "drop"


def fits(folder: Path) -> bool:
    """Whether `folder` looks like this layout."""
    return bool(steam_files(folder, "reviews"))


def steam_files(folder: Path, what: str) -> list[Path]:
    """The files ``steam_*<what>*`` of `folder`."""
    found = folder.glob(f"steam_*{what}*")
    return sorted(path for path in found if path.name.endswith(SUFFIXES))


def read_steam(path: Path, options: SteamOptions) -> Log:
    """Reads the folder `path`; without a file of games the items are those of the reviews.

    Raises:
        DataError: a file is missing, a line is no record or lacks a field, or a game is unknown
            and `options.unknown_items` is "error".
    """
    reviews = _choose(path, options.reviews, "reviews")
    if reviews is None:
        raise DataError(path, "no reviews here; expected steam_reviews.json.gz")
    games = _choose(path, options.games, "games")
    options.check_files(reviews, *([games] if games else []))
    catalogue = None if games is None else _catalogue(games, options)
    titles = Titles(options.user, "product_id", "date")
    encoding = options.encoding_of(reviews)
    faults = Faults(reviews, lambda rows: lines_of_records(reviews, rows, encoding))
    return gather(
        [Source(_reviews(reviews, titles, encoding), faults)],
        titles,
        catalogue,
        images_folder(path, options.images),
        Report(kind=f"steam{'' if games else ', no games'}", source=str(path)),
        options,
    )


def _reviews(path: Path, titles: Titles, encoding: str) -> Iterator[Any]:
    import pyarrow as pa

    fields = dict.fromkeys((titles.user, titles.item, "date"), pa.string())
    yield from json_blocks(path, fields, required=("date",), encoding=encoding)


def _catalogue(path: Path, options: SteamOptions) -> Catalogue:
    import pyarrow as pa

    texts, encoding = options.texts, options.encoding_of(path)
    fields = {name: pa.list_(pa.string()) if name in LISTS else pa.string() for name in texts}
    fields = {"id": pa.string(), **fields}
    found: dict[str, str | None] = {}
    joiner, n_read, nameless, absent = TextJoiner(), 0, 0, list(texts)
    for block in json_blocks(path, fields, required=(), encoding=encoding, loose=True):
        n_read += block.num_rows
        absent = [name for name in absent if block[name].null_count == block.num_rows]
        columns = [_said(block[name].to_pylist()) for name in texts]
        for row, game in enumerate(block["id"].to_pylist()):
            if is_missing(game):
                nameless += 1
            elif game not in found:
                found[game] = joiner.join(values[row] for values in columns)
    if absent and n_read:
        present = list(first_record(path, encoding))
        raise DataError(
            path,
            f"no line has the field {absent[0]!r}; the first has {', '.join(present)[:300]}"
            f"{nearest(absent[0], present)} ({flag('texts')})",
        )
    counts = {
        "repeated_items": n_read - nameless - len(found),
        "items_nameless": nameless,
        **joiner.counts(),
    }
    return Catalogue(path, tuple(found), tuple(found.values()), counts=counts)


def _said(values: list[Any]) -> list[str | None]:
    """Lists in words."""
    return [", ".join(part for part in v if part) if isinstance(v, list) else v for v in values]


def _choose(folder: Path, name: str | None, what: str) -> Path | None:
    if name is not None:
        return folder / name
    found = steam_files(folder, what)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(folder, f"several files of {what}: {names}; --option {what}=FILE names one")
    return found[0] if found else None
