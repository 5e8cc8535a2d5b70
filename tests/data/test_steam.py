"""Steam's reviews and games: Python literals with u'..', games without id or listed twice."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from odmt_fast.data import DataError, Filters, detect, read
from odmt_fast.data.readers.steam import SteamOptions

REVIEWS = [
    {"username": user, "product_id": game, "date": f"2017-12-{day:02d}", "hours": 1.5}
    for user in ("Ann", "Bob's")
    for day, game in ((9, "30"), (1, "10"), (5, "20"))
]
GAMES = [
    {"id": "10", "app_name": "Half\xa0Life", "genres": ["Action", "Indie"], "price": 4.99},
    {"id": "20", "app_name": "It's", "price": "Free to Play"},
    {"url": "http://store", "app_name": "no id"},
    {"id": "30", "app_name": "Ärger", "genres": ["Casual"], "price": 9.99},
    {"id": "10", "app_name": "again"},
]
KEEP = Filters(min_seq_len=3)


def literal(record: dict[str, object]) -> str:
    """As Python 2 wrote it."""

    def shown(value: object) -> str:
        if isinstance(value, list):
            return "[" + ", ".join(map(shown, value)) + "]"
        return f"u{ascii(value)}" if isinstance(value, str) else repr(value)

    return "{" + ", ".join(f"u'{name}': {shown(value)}" for name, value in record.items()) + "}"


@pytest.mark.parametrize("write", [literal, json.dumps], ids=["literal", "json"])
def test_reviews_in_the_order_of_their_dates(write: object, tmp_path: Path) -> None:
    assert callable(write)
    for name, records in (("steam_reviews", REVIEWS), ("steam_games", GAMES)):
        text = "\n".join(write(record) for record in records)
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(text.encode()))
    assert detect(tmp_path) == "steam"
    data = read(tmp_path, filters=KEEP)
    assert (data.users, data.items.ids) == (("Ann", "Bob's"), ("10", "20", "30"))
    assert data.sequences[1].tolist() == [1, 2, 3]
    assert data.items.texts == ("Half Life. Action, Indie", "It's", "Ärger. Casual")
    assert (data.report.repeated_items, data.report.items_nameless) == (1, 1)
    priced = read(tmp_path, options=SteamOptions(texts=("app_name", "price")), filters=KEEP)
    assert priced.items.texts == ("Half Life. 4.99", "It's. Free to Play", "Ärger. 9.99")
    with pytest.raises(DataError, match=r"no line has the field 'genre'; .*did you mean 'genres'"):
        read(tmp_path, options=SteamOptions(texts=("genre",)))


def test_without_games_those_of_the_reviews_are_taken(tmp_path: Path) -> None:
    (tmp_path / "steam_reviews.json").write_text("\n".join(map(literal, REVIEWS)))
    data = read(tmp_path, filters=KEEP)
    assert data.items.modalities == ()
    assert data.report.kind == "steam, no games"


def test_reviews_of_games_that_are_not_listed(tmp_path: Path) -> None:
    unlisted = {"username": "Ann", "product_id": "99", "date": "2017-12-30"}
    text = "\n".join(map(literal, [*REVIEWS, unlisted]))
    (tmp_path / "steam_reviews.json").write_text(text)
    (tmp_path / "steam_games.json").write_text("\n".join(map(literal, GAMES)))
    assert read(tmp_path, filters=KEEP).report.interactions_unknown == 1
    with pytest.raises(DataError, match=r"steam_reviews.json, line 7: item '99' is not in"):
        read(tmp_path, options=SteamOptions(unknown_items="error"))


def test_a_review_without_a_date_is_named(tmp_path: Path) -> None:
    lines = [*map(literal, REVIEWS), "{u'username': u'Ann', u'product_id': u'10'}"]
    (tmp_path / "steam_reviews.json").write_text("\n".join(lines))
    with pytest.raises(DataError, match="line 7: field 'date' is missing"):
        read(tmp_path)
