"""Steam: reviews and games as lines, each a Python literal (``{u'username': ...}``) or JSON.

``steam_reviews.json[.gz]`` has username (or user_id), product_id and date;
``steam_games.json[.gz]`` has id, app_name, title, genres, tags, developer, publisher, price. The
published games lack an id in some lines and repeat others, so these are counted, not refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.readers.catalogue import record_catalogue
from odmt_fast.data.readers.gather import Source, Titles, gather
from odmt_fast.data.readers.options import ReaderOptions, Rule
from odmt_fast.data.readers.records import faults_of_records, json_blocks
from odmt_fast.data.readers.table import images_folder
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
    catalogue = None
    if games is not None:
        catalogue = record_catalogue(
            games,
            "id",
            options.texts,
            replace(options, missing_ids="drop"),
            lists=LISTS,
            between=", ",
            loose=True,
        )
    titles = Titles(options.user, "product_id", "date")
    encoding = options.encoding_of(reviews)
    return gather(
        [Source(_reviews(reviews, titles, encoding), faults_of_records(reviews, encoding))],
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


def _choose(folder: Path, name: str | None, what: str) -> Path | None:
    if name is not None:
        return folder / name
    found = steam_files(folder, what)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(folder, f"several files of {what}: {names}; --option {what}=FILE names one")
    return found[0] if found else None
