"""MovieLens: 100K (u.data, u.item), 1M and 10M (ratings.dat, movies.dat), others (CSV).

The columns of 100K are separated by TAB and ``|``, those of 1M by ``::``, without header. Titles of
100K and 1M are in ISO 8859-1. Posters, which GroupLens does not publish: a folder of <movie>.jpg.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.readers import delimited, tabular
from odmt_fast.data.readers.columns import Unknown
from odmt_fast.data.readers.gather import Catalogue, Source, Titles, gather
from odmt_fast.data.readers.table import join_texts
from odmt_fast.data.report import Report

RATINGS = ("userId", "movieId", "rating", "timestamp")
MOVIES = ("movieId", "title", "genres")
# The columns of u.item behind the title, then the genres, each a flag.
_DATES = ("release date", "video release date", "IMDb URL")
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime"),
    *("Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance"),
    *("Sci-Fi", "Thriller", "War", "Western"),
)
NO_GENRE = ("(no genres listed)", "unknown")


@dataclass(frozen=True)
class Edition:
    """The files of one layout.

    Attributes:
        name: as reports show it.
        ratings: the file of interactions.
        movies: the file of items.
        marks: what separates the columns of the two; None is a CSV with a header.
    """

    name: str
    ratings: str
    movies: str
    marks: tuple[str, str] | None = None


EDITIONS = (
    Edition("100K", "u.data", "u.item", ("\t", "|")),
    Edition("1M", "ratings.dat", "movies.dat", ("::", "::")),
    Edition("CSV", "ratings.csv", "movies.csv"),
)


@dataclass(frozen=True)
class MovieLensOptions:
    """What to take.

    Attributes:
        texts: of title and genres, joined by ". ".
        min_rating: ratings below it are left out and counted; 4 is usual for implicit feedback.
        images: a folder of <movie>.jpg or an LMDB; None takes ``images/`` or ``posters/`` if there.
        unknown_items: "error" refuses a rating of a movie that is not listed, "drop" leaves it out
            and counts it.
    """

    texts: tuple[str, ...] = ("title", "genres")
    min_rating: float = 0.0
    images: str | None = None
    unknown_items: Unknown = "error"


def fits(folder: Path) -> bool:
    """Whether `folder` looks like this layout."""
    return edition_of(folder) is not None


def edition_of(folder: Path) -> Edition | None:
    """The edition whose two files lie in `folder`."""
    for edition in EDITIONS:
        if (folder / edition.ratings).exists() and (folder / edition.movies).exists():
            return edition
    return None


def read_movielens(path: Path, options: MovieLensOptions) -> Log:
    """Reads the folder `path`.

    Raises:
        DataError: no edition's files are there; a value is missing or malformed; a movie is listed
            twice; a movie is unknown and `options.unknown_items` is "error".
    """
    edition = edition_of(path)
    if edition is None:
        expected = " or ".join(f"{e.ratings} and {e.movies}" for e in EDITIONS)
        raise DataError(path, f"no MovieLens here; expected {expected}")
    if wrong := [name for name in options.texts if name not in MOVIES[1:]]:
        raise DataError(
            path / edition.movies,
            f"there is no text {wrong[0]!r} of a movie; choose of title and genres "
            "(--option texts=...)",
        )
    ratings, movies = path / edition.ratings, path / edition.movies
    encoding = "utf-8"
    if edition.marks is None:
        source = Source(
            ratings, tabular.blocks(ratings, RATINGS), partial(tabular.line_of_row, ratings)
        )
        listed: Iterable[Any] = tabular.blocks(movies, MOVIES, quoted_newlines=True)
        line_of = partial(tabular.line_of_row, movies)
    else:
        encoding = delimited.encoding_of(movies)
        source = Source(
            ratings,
            delimited.delimited_blocks(ratings, edition.marks[0], RATINGS, header=False),
            partial(delimited.line_of_row, ratings, header=False),
        )
        titles = (*MOVIES[:2], *_DATES, *GENRES) if edition.name == "100K" else MOVIES
        listed = delimited.delimited_blocks(
            movies, edition.marks[1], titles, header=False, encoding=encoding
        )
        line_of = partial(delimited.line_of_row, movies, header=False, encoding=encoding)
    catalogue = _catalogue(movies, listed, options.texts, line_of)
    folders = [options.images] if options.images else ["images", "posters"]
    images = [path / name for name in folders if options.images or (path / name).is_dir()]
    said = "" if encoding == "utf-8" else ", titles in ISO 8859-1"
    return gather(
        [source],
        Titles("userId", "movieId", "timestamp", "rating" if options.min_rating > 0 else None),
        catalogue,
        images[0] if images else None,
        Report(kind=f"movielens {edition.name}{said}", source=str(path)),
        unknown=options.unknown_items,
        min_rating=options.min_rating,
    )


def _catalogue(
    path: Path, listed: Iterable[Any], texts: tuple[str, ...], line_of: Any
) -> Catalogue:
    found: dict[str, str | None] = {}
    for block in listed:
        start = len(found)
        ids = tabular.names(block["movieId"], path, "movieId", start, line_of).to_pylist()
        parts = {"title": block["title"].to_pylist(), "genres": _genres(block)}
        for row, item in enumerate(ids):
            if item in found:
                raise DataError(path, f"movie {item!r} is listed twice", line=line_of(start + row))
            found[item] = join_texts(tuple(parts[name][row] for name in texts))
    return Catalogue(path, tuple(found), tuple(found.values()))


def _genres(block: Any) -> list[str | None]:
    """The genres of every movie of a block, in words."""
    if "genres" in block.schema.names:
        words = [(text or "").split("|") for text in block["genres"].to_pylist()]
    else:
        flags = [block[genre].to_pylist() for genre in GENRES]
        words = [
            [genre for genre, flag in zip(GENRES, row, strict=True) if flag == "1"]
            for row in zip(*flags, strict=True)
        ]
    return [", ".join(word for word in row if word not in NO_GENRE) or None for row in words]
