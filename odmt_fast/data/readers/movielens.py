"""MovieLens: 100K (u.data, u.item), 1M and 10M (ratings.dat, movies.dat), others (CSV).

The columns of 100K are separated by TAB and ``|``, those of 1M by ``::``, without header. Titles of
100K and 1M are in ISO 8859-1. Posters, which GroupLens does not publish: a folder of <movie>.jpg.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.readers import delimited, tabular
from odmt_fast.data.readers.catalogue import read_catalogue
from odmt_fast.data.readers.csv_format import CsvFormat
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.gather import Source, Titles, gather
from odmt_fast.data.readers.options import ReaderOptions
from odmt_fast.data.readers.recoding import is_utf8
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


@dataclass(frozen=True, kw_only=True)
class MovieLensOptions(ReaderOptions):
    """What to take.

    Attributes:
        texts: of title and genres, joined by ". ".
        min_rating: ratings below it are left out and counted; 4 is usual for implicit feedback.
        images: a folder of <movie>.jpg or an LMDB; None takes ``images/`` or ``posters/`` if there.
    """

    texts: tuple[str, ...] = ("title", "genres")
    min_rating: float = 0.0
    images: str | None = None


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
    options.check_files(ratings, movies)
    titles = Titles("userId", "movieId", "timestamp", "rating" if options.min_rating > 0 else None)
    encoding = options.encoding_of(movies)
    if edition.marks is None:
        form = CsvFormat(options.encoding)
        source = Source(
            tabular.blocks(ratings, RATINGS, form=form),
            Faults(ratings, lambda rows: tabular.lines_of_rows(ratings, rows, form)),
        )
        listed: Iterable[Any] = tabular.blocks(movies, MOVIES, quoted_newlines=True, form=form)
        faults = Faults(movies, lambda rows: tabular.lines_of_rows(movies, rows, form))
    else:
        if is_utf8(encoding):
            encoding = delimited.encoding_of(movies)
        own = options.encoding_of(ratings)
        source = Source(
            delimited.delimited_blocks(
                ratings, edition.marks[0], RATINGS, header=False, encoding=own
            ),
            delimited.faults_of(ratings, header=False, encoding=own),
        )
        columns = (*MOVIES[:2], *_DATES, *GENRES) if edition.name == "100K" else MOVIES
        listed = delimited.delimited_blocks(
            movies, edition.marks[1], columns, header=False, encoding=encoding
        )
        faults = delimited.faults_of(movies, header=False, encoding=encoding)
    catalogue = read_catalogue(
        ((block["movieId"], _texts(block, options.texts), None) for block in listed),
        "movieId",
        faults,
        options,
    )
    folders = [options.images] if options.images else ["images", "posters"]
    images = [path / name for name in folders if options.images or (path / name).is_dir()]
    said = ", titles in ISO 8859-1" if encoding == delimited.LATIN else ""
    return gather(
        [source],
        titles,
        catalogue,
        images[0] if images else None,
        Report(kind=f"movielens {edition.name}{said}", source=str(path)),
        options,
        min_rating=options.min_rating,
    )


def _texts(block: Any, wanted: tuple[str, ...]) -> list[list[str | None]]:
    """Title and genres of the movies of a block, those that are wanted."""
    parts = {"title": block["title"].to_pylist(), "genres": _genres(block)}
    return [parts[name] for name in wanted]


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
