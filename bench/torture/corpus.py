"""A small valid source of every layout, by line, with what each line of interactions says."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

USERS, ITEMS, LENGTH = 8, 12, 5
_TITLES = ("Tea cup", 'A "quoted" title', "Crème brûlée, large", "50% off; now", "it's | here")


@dataclass(frozen=True)
class Source:
    """Files of one layout.

    Attributes:
        lines: name of the file -> its lines, without line ends.
        facts: (name of the file, row in `lines`, user, items bought there).
    """

    lines: dict[str, list[str]]
    facts: list[tuple[str, int, str, tuple[str, ...]]]


def _purchases(chance: random.Random) -> list[tuple[str, list[str]]]:
    items = [f"i{number}" for number in range(ITEMS)]
    return [(f"u{user}", chance.sample(items, LENGTH)) for user in range(USERS)]


def _title(number: int) -> str:
    return _TITLES[number % len(_TITLES)]


def official(chance: random.Random) -> Source:
    """behaviors.tsv and text.tsv."""
    bought = _purchases(chance)
    return Source(
        {
            "behaviors.tsv": [f"{user}\t{' '.join(items)}" for user, items in bought],
            "text.tsv": [f"i{n}\t{_title(n)}" for n in range(ITEMS)],
        },
        [("behaviors.tsv", row, user, tuple(items)) for row, (user, items) in enumerate(bought)],
    )


def _rows(chance: random.Random) -> list[tuple[str, str, int]]:
    rows = [
        (user, item, 1_600_000_000 + 86_400 * step + number)
        for number, (user, items) in enumerate(_purchases(chance))
        for step, item in enumerate(items)
    ]
    chance.shuffle(rows)
    return rows


def _facts(name: str, rows: list[tuple[str, str, Any]], first: int) -> list:
    return [(name, first + row, user, (item,)) for row, (user, item, _) in enumerate(rows)]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def table(chance: random.Random, separator: str = ",", suffix: str = ".csv") -> Source:
    """interactions.csv and items.csv."""
    rows = _rows(chance)
    interactions = [("user", "item", "timestamp"), *((u, i, str(t)) for u, i, t in rows)]
    items = [("item", "text"), *((f"i{n}", _quoted(_title(n))) for n in range(ITEMS))]
    return Source(
        {
            f"interactions{suffix}": [separator.join(row) for row in interactions],
            f"items{suffix}": [separator.join(row) for row in items],
        },
        _facts(f"interactions{suffix}", rows, 1),
    )


def amazon(chance: random.Random, fields: tuple[str, str, str], *, python: bool) -> Source:
    """Reviews and metadata, a JSON object a line; metadata of 2014 are Python literals."""
    rows = _rows(chance)
    user, item, time = fields
    unit = 1000 if time == "timestamp" else 1
    reviews = [json.dumps({user: u, item: i, time: t * unit, "overall": 5.0}) for u, i, t in rows]
    write = repr if python else json.dumps
    meta = [write({item: f"i{n}", "title": _title(n)}) for n in range(ITEMS)]
    return Source(
        {"Things_5.json": reviews, "meta_Things.json": meta}, _facts("Things_5.json", rows, 0)
    )


def hm(chance: random.Random) -> Source:
    """transactions_train.csv and articles.csv."""
    rows = [
        (user, f"{100000015 + 7001 * int(item[1:]):010d}", 1 + (time // 86_400) % 28)
        for user, item, time in _rows(chance)
    ]
    head = "t_dat,customer_id,article_id,price,sales_channel_id"
    lines = [f"2020-09-{day:02d},{user},{item},0.05,2" for user, item, day in rows]
    articles = [f"{100000015 + 7001 * n:010d},{_quoted(_title(n))},Cup,Blue" for n in range(ITEMS)]
    return Source(
        {
            "transactions_train.csv": [head, *lines],
            "articles.csv": ["article_id,prod_name,product_type_name,detail_desc", *articles],
        },
        _facts("transactions_train.csv", rows, 1),
    )


def movielens(chance: random.Random) -> Source:
    """ratings.dat and movies.dat (1M)."""
    rows = [(user, item[1:], time) for user, item, time in _rows(chance)]
    return Source(
        {
            "ratings.dat": [f"{user}::{item}::5::{time}" for user, item, time in rows],
            "movies.dat": [f"{n}::{_title(n)}::Comedy|Drama" for n in range(ITEMS)],
        },
        _facts("ratings.dat", rows, 0),
    )


def recbole(chance: random.Random) -> Source:
    """things.inter and things.item."""
    rows = _rows(chance)
    head = "user_id:token\titem_id:token\ttimestamp:float"
    return Source(
        {
            "things.inter": [head, *(f"{u}\t{i}\t{t}" for u, i, t in rows)],
            "things.item": [
                "item_id:token\ttitle:token_seq",
                *(f"i{n}\t{_title(n)}" for n in range(ITEMS)),
            ],
        },
        _facts("things.inter", rows, 1),
    )


def split(chance: random.Random) -> Source:
    """Three tables of a split already made, and the items."""
    head = "user_id,parent_asin,timestamp"
    lines: dict[str, list[str]] = {f"{part}.csv": [head] for part in ("train", "valid", "test")}
    facts = []
    for user, items in _purchases(chance):
        for step, item in enumerate(items):
            name = {LENGTH - 2: "valid.csv", LENGTH - 1: "test.csv"}.get(step, "train.csv")
            facts.append((name, len(lines[name]), user, (item,)))
            lines[name].append(f"{user},{item},{1_600_000_000 + 86_400 * step}")
    titles = [f"i{n},{_quoted(_title(n))}" for n in range(ITEMS)]
    return Source({**lines, "items.csv": ["parent_asin,title", *titles]}, facts)


def steam(chance: random.Random) -> Source:
    """Reviews and games, a Python literal a line."""
    rows = [
        (user, item, f"2017-12-{1 + (time // 86_400) % 28:02d}")
        for user, item, time in _rows(chance)
    ]
    reviews = [
        f"{{u'username': u{user!r}, u'product_id': u{item!r}, u'date': u{date!r}}}"
        for user, item, date in rows
    ]
    games = [
        f"{{u'id': u'i{n}', u'app_name': u{_title(n)!r}, u'genres': [u'Action']}}"
        for n in range(ITEMS)
    ]
    return Source(
        {"steam_reviews.json": reviews, "steam_games.json": games},
        _facts("steam_reviews.json", rows, 0),
    )


_REVIEW = ("reviewerID", "asin", "unixReviewTime")


@dataclass(frozen=True)
class Layout:
    """One way to write a source.

    Attributes:
        kind: a key of ``odmt_fast.data.READERS``.
        make: draws a source.
    """

    kind: str
    make: Callable[[random.Random], Source]


CORPUS: dict[str, Layout] = {
    "official": Layout("official", official),
    "table": Layout("table", table),
    "table (TSV)": Layout("table", partial(table, separator="\t", suffix=".tsv")),
    "amazon 2014": Layout("amazon", partial(amazon, fields=_REVIEW, python=True)),
    "amazon 2018": Layout("amazon", partial(amazon, fields=_REVIEW, python=False)),
    "amazon 2023": Layout(
        "amazon", partial(amazon, fields=("user_id", "parent_asin", "timestamp"), python=False)
    ),
    "hm": Layout("hm", hm),
    "movielens": Layout("movielens", movielens),
    "recbole": Layout("recbole", recbole),
    "split": Layout("split", split),
    "steam": Layout("steam", steam),
}
"""Every reader in every edition, by the name it has in the table."""
