"""MovieLens in its three layouts: the same shop read from each."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from odmt_fast.data import DataError, Filters, detect, read
from odmt_fast.data.bounds import BOUNDS
from odmt_fast.data.readers.movielens import GENRES, MovieLensOptions

TITLES = {"1": "Amélie (2001)", "2": 'The "Great" Film, A (1950)', "3": "War & Peace (1956)"}
GENRE = {"1": "Comedy|Romance", "2": "(no genres listed)", "3": "War"}
RATINGS = [
    (user, item, rating, 978_300_000 + step)
    for user in ("7", "9")
    for step, (item, rating) in enumerate([("3", 5), ("1", 2), ("2", 4), ("1", 5)])
]
KEEP = Filters(min_seq_len=3)


def csv(folder: Path) -> None:
    rows = ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in RATINGS)]
    (folder / "ratings.csv").write_text("\n".join(rows) + "\n")
    quoted = {item: title.replace('"', '""') for item, title in TITLES.items()}
    movies = ["movieId,title,genres", *(f'{i},"{quoted[i]}",{GENRE[i]}' for i in TITLES)]
    (folder / "movies.csv").write_text("\n".join(movies) + "\n", "utf-8")


def dat(folder: Path, encoding: str = "iso-8859-1") -> None:
    lines = ["::".join(map(str, row)) for row in RATINGS]
    (folder / "ratings.dat").write_text("\n".join(lines) + "\n")
    lines = [f"{item}::{title}::{GENRE[item]}" for item, title in TITLES.items()]
    (folder / "movies.dat").write_text("\n".join(lines) + "\n", encoding)


def hundred_k(folder: Path) -> None:
    lines = ["\t".join(map(str, row)) for row in RATINGS]
    (folder / "u.data").write_text("\n".join(lines) + "\n")
    lines = []
    for item, title in TITLES.items():
        found = GENRE[item].split("|")
        flags = "|".join(str(int(genre in found)) for genre in GENRES)
        lines.append(f"{item}|{title}|01-Jan-1995||http://imdb|{flags}")
    (folder / "u.item").write_text("\n".join(lines) + "\n", "iso-8859-1")


@pytest.mark.parametrize("write", [csv, dat, hundred_k], ids=lambda f: f.__name__)
def test_every_edition_says_the_same(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    assert detect(tmp_path) == "movielens"
    data = read(tmp_path, filters=KEEP)
    assert data.users == ("7", "9")
    assert data.items.ids == ("1", "2", "3")
    assert data.sequences[0].tolist() == [3, 1, 2, 1]
    assert data.items.texts == (
        "Amélie (2001). Comedy, Romance",
        'The "Great" Film, A (1950)',
        "War & Peace (1956). War",
    )
    assert ("ISO 8859-1" in data.report.kind) == (write is not csv)


def test_titles_in_utf8_are_told_from_latin(tmp_path: Path) -> None:
    dat(tmp_path, "utf-8")  # as in 10M
    data = read(tmp_path, filters=KEEP)
    assert data.items.texts[0] == "Amélie (2001). Comedy, Romance"
    assert data.report.kind == "movielens 1M"


@pytest.mark.parametrize("write", [csv, dat, hundred_k], ids=lambda f: f.__name__)
def test_low_ratings_are_left_out_and_counted(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path)
    data = read(tmp_path, options=MovieLensOptions(min_rating=4), filters=KEEP)
    assert data.sequences[1].tolist() == [3, 2, 1]
    assert (data.report.interactions_read, data.report.ratings_low) == (8, 2)


def test_posters_lie_in_a_folder_by_movie(tmp_path: Path, picture: Callable[..., Path]) -> None:
    csv(tmp_path)
    picture(tmp_path / "posters" / "2.jpg")
    data = read(tmp_path, filters=KEEP, options=MovieLensOptions(texts=("title",)))
    assert [image is not None for image in data.items.images] == [False, True, False]
    assert data.items.texts[2] == "War & Peace (1956)"


@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        ("ratings.dat", "7::1::5", r"ratings.dat, line 9: 3 columns separated by '::', expected 4"),
        ("ratings.dat", "7::8::5::978300000", "line 9: item '8' is not in movies.dat"),
        ("ratings.dat", "::1::5::978300000", "line 9: column 'userId' is empty"),
        ("ratings.dat", "7::1::five::978300000", "line 9: column 'rating' is 'five'"),
        ("ratings.dat", "7::1::5::yesterday", "line 9: column 'timestamp' has 'yesterday'"),
        ("movies.dat", "1::Again::Drama", "movies.dat, line 4: item '1' is listed twice"),
    ],
)
def test_faults_are_named(file: str, line: str, reason: str, tmp_path: Path) -> None:
    dat(tmp_path)
    with (tmp_path / file).open("a") as out:
        out.write(line + "\n")
    with pytest.raises(DataError, match=reason):
        read(tmp_path, options=MovieLensOptions(min_rating=1), filters=KEEP)


def test_unknown_movies_can_be_left_out(tmp_path: Path) -> None:
    dat(tmp_path)
    with (tmp_path / "ratings.dat").open("a") as out:
        out.write("\n7::8::5::978300009\n")
    data = read(tmp_path, options=MovieLensOptions(unknown_items="drop"), filters=KEEP)
    assert data.report.interactions_unknown == 1
    assert data.report.interactions == 8


def test_long_files_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dat(tmp_path)
    whole = read(tmp_path, filters=KEEP)
    for name, value in (("ROWS", 3), ("LETTERS", 1)):
        monkeypatch.setattr(f"odmt_fast.data.readers.delimited.{name}", value)
        parts = read(tmp_path, filters=KEEP)
        assert parts.items == whole.items
        assert parts.sequences.items.tolist() == whole.sequences.items.tolist()
    with (tmp_path / "ratings.dat").open("a") as out:
        out.write("7::::5::1\n")
    with pytest.raises(DataError, match="line 9: column 'movieId' is empty"):
        read(tmp_path, filters=KEEP)


def test_a_line_of_no_end_is_refused(tmp_path: Path) -> None:
    dat(tmp_path)
    limits = BOUNDS.updated(line_bytes=30)
    with pytest.raises(DataError, match=r"movies.dat, line 1: this line has more than"):
        read(tmp_path, filters=KEEP, limits=limits)


def test_a_misspelt_text_is_refused(tmp_path: Path) -> None:
    csv(tmp_path)
    with pytest.raises(DataError, match="no text 'tags' of a movie"):
        read(tmp_path, options=MovieLensOptions(texts=("tags",)))


def test_ratings_packed_by_gzip_do_not_pass_for_another_layout(tmp_path: Path) -> None:
    dat(tmp_path)
    packed = gzip.compress((tmp_path / "ratings.dat").read_bytes())
    (tmp_path / "ratings.dat").write_bytes(packed)
    with pytest.raises(DataError, match=r"ratings.dat, line 1: not UTF-8 but gzip"):
        read(tmp_path)
