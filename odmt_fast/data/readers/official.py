"""The layout of the official data sets: behaviours, texts and pictures, one file or folder each.

``behaviors.tsv`` (or ``*_user_behaviours.tsv``, ``*_pick_users_*.tsv``, ``*_pairs.tsv``): one user
per line, user TAB items separated by spaces, oldest first. ``text.tsv`` (or ``*_text.tsv``,
``*_pick_items_*.tsv``, ``*_title.csv``): item TAB (in a .csv: comma) text; without such a file the
items are those of the sequences. Pictures: a folder ``images/`` of <item>.jpg or .png, or an LMDB
``*image*.lmdb`` / ``*cover*.lmdb``.

Source: official utils/load_data.py, utils/dataset_config.py.
"""

from __future__ import annotations

import csv
from collections.abc import Container
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.catalogue import Catalogue
from odmt_fast.data.readers.columns import DROP_UNKNOWN, NameColumn, unknown_item
from odmt_fast.data.readers.faults import NAMED, Faults
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.lines import utf8_lines
from odmt_fast.data.readers.options import ReaderOptions
from odmt_fast.data.readers.values import DROP_MISSING, TextJoiner, is_missing, missing_name
from odmt_fast.data.report import Report
from odmt_fast.data.sequences import Sequences

BEHAVIORS = (
    "behaviors.tsv",
    "behaviours.tsv",
    "*_user_behaviours.tsv",
    "*_user_behaviors.tsv",
    "*_pick_users_*.tsv",
    "*_pairs.tsv",
)
TEXTS = ("text.tsv", "*_text.tsv", "*_pick_items_*.tsv", "*_title.csv")
IMAGES = ("images", "*image*.lmdb", "*cover*.lmdb")
USERS_A_BLOCK = 50_000


@dataclass(frozen=True, kw_only=True)
class OfficialOptions(ReaderOptions):
    """Names inside the folder; None finds them by the official patterns.

    Attributes:
        behaviors: the file of user sequences.
        text: the file of item texts.
        images: the image folder or LMDB.
    """

    behaviors: str | None = None
    text: str | None = None
    images: str | None = None


def find_one(folder: Path, patterns: tuple[str, ...]) -> Path | None:
    """The one entry of `folder` that matches the first pattern that matches any.

    Raises:
        DataError: a pattern matches several entries.
    """
    for pattern in patterns:
        matches = sorted(folder.glob(pattern))
        if len(matches) > 1:
            names = ", ".join(path.name for path in matches)
            raise DataError(folder, f"several files match {pattern!r}: {names}; name one of them")
        if matches:
            return matches[0]
    return None


def read_official(path: Path, options: OfficialOptions) -> Log:
    """Reads the folder `path`.

    Raises:
        DataError: a file is missing or malformed; an item or a user is listed twice; a sequence
            names an item that the text file lacks.
    """
    behaviors = path / options.behaviors if options.behaviors else find_one(path, BEHAVIORS)
    text = path / options.text if options.text else find_one(path, TEXTS)
    images = path / options.images if options.images else find_one(path, IMAGES)
    if behaviors is None:
        raise DataError(path, f"no user sequences here; expected {' or '.join(BEHAVIORS)}")
    if text is None:
        _check_no_texts(path, behaviors)
        options.check_files(behaviors)
        listed = None
    else:
        options.check_files(behaviors, text)
        listed = _read_texts(text, options)
    users, ids = _read_behaviors(behaviors, listed, options)
    catalogue = listed or Catalogue(behaviors, ids, (None,) * len(ids), counts={"blank_lines": 0})
    matches = match_images(images, ids)
    blank = catalogue.counts.pop("blank_lines") + users.counts.pop("blank_lines")
    counts: dict[str, Any] = {**users.counts, **catalogue.counts, **matches.counts}
    return Log(
        users=tuple(users.names),
        items=ItemTable(catalogue.ids, catalogue.texts, matches.images),
        sequences=users.sequences(),
        report=Report(
            kind="official" if text else "official, no texts",
            source=str(path),
            blank_lines=blank,
            **counts,
        ),
    )


def _check_no_texts(folder: Path, behaviors: Path) -> None:
    """Raises a DataError where another table might be that of the texts."""
    tables = (".tsv", ".csv", ".txt", ".tsv.gz", ".csv.gz")
    others = [p.name for p in folder.iterdir() if p.name.endswith(tables) and p != behaviors]
    if others:
        raise DataError(
            folder,
            f"no item texts here; expected {' or '.join(TEXTS)}; is it {min(others)}? Name it with "
            "--option text=FILE, or move it away to read the sequences alone",
        )


def _read_texts(path: Path, options: OfficialOptions) -> Catalogue:
    separator, name = (",", "comma") if path.suffix == ".csv" else ("\t", "TAB")
    faults, joiner = Faults(path), TextJoiner(watch_quotes=path.suffix != ".csv")
    texts: dict[str, str | None] = {}
    blank, nameless = 0, 0
    for number, line in utf8_lines(path, options.encoding_of(path)):
        if not line.strip():
            blank += 1
            continue
        item, found, text = line.partition(separator)
        if found and is_missing(item):
            nameless += 1
            if options.missing_ids == "error":
                told = missing_name("the item", item)
                faults.tell(number, told, DROP_MISSING)
            continue
        if told := _wrong_item(item, found, name, texts):
            faults.tell(number, told)
            continue
        if path.suffix == ".csv" and text.startswith('"'):
            try:
                text = ",".join(next(csv.reader([text], strict=True)))
            except csv.Error as error:
                told = f"the quoted text is damaged: {error}"
                faults.tell(number, told)
        texts[item] = joiner.join((text,))
    faults.check()
    counts = {"blank_lines": blank, "items_nameless": nameless, **joiner.counts()}
    return Catalogue(path, tuple(texts), tuple(texts.values()), counts=counts)


def _wrong_item(item: str, separator: str, name: str, listed: Container[str]) -> str:
    """What is wrong with the item of a line; nothing where it is right."""
    if not separator:
        return f"no {name} between item and text"
    if any(letter.isspace() for letter in item):
        return f"{item!r} is not an item name (no spaces)"
    return f"item {item!r} is listed twice" if item in listed else ""


@dataclass
class _Users:
    """The sequences of the users as they are gathered, and counts of a report."""

    names: dict[str, None] = field(default_factory=dict)
    items: list[NDArray[np.int32]] = field(default_factory=list)
    lengths: list[NDArray[np.int64]] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("blank_lines", "interactions_read", "interactions_nameless", "interactions_unknown"), 0
        )
    )

    def sequences(self) -> Sequences:
        """Items of each user."""
        flat = np.concatenate(self.items) if self.items else np.empty(0, np.int32)
        lengths = np.concatenate(self.lengths) if self.lengths else np.empty(0, np.int64)
        return Sequences.from_lengths(flat, lengths)


def _read_behaviors(
    path: Path, listed: Catalogue | None, options: OfficialOptions
) -> tuple[_Users, tuple[str, ...]]:
    """The users, and the catalogue: `listed`, or the items in order of first appearance."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = () if listed is None else listed.ids
    known = pa.array(ids, pa.string())
    unlisted, users, faults = NameColumn(), _Users(), Faults(path)
    source = utf8_lines(path, options.encoding_of(path))
    while block := list(islice(source, USERS_A_BLOCK)):
        numbers, tails = _split_users(block, users, faults, options)
        names, counts = _split_words(tails)
        users.counts["interactions_read"] += len(names)
        if listed is None:
            unlisted.add(names)
            users.lengths.append(counts)
            continue
        codes = pc.index_in(names, value_set=known)
        users.counts["interactions_unknown"] += codes.null_count
        line_of = np.repeat(np.asarray(numbers, np.int64), counts)
        if codes.null_count and options.unknown_items == "error":
            strange = np.flatnonzero(codes.is_null().to_numpy(zero_copy_only=False))
            faults.count += max(0, strange.size - NAMED)
            for at in strange[:NAMED].tolist():
                told = unknown_item(names[at].as_py(), ids, listed.path.name)
                faults.tell(int(line_of[at]), told, DROP_UNKNOWN)
        dense = codes.fill_null(-1).to_numpy() + np.int32(1)
        owner = np.repeat(np.arange(counts.size), counts)[dense > 0]
        users.items.append(dense[dense > 0])
        users.lengths.append(np.bincount(owner, minlength=counts.size).astype(np.int64))
    faults.check()
    if listed is None:
        place, found = unlisted.finish()
        ids, users.items = tuple(found.to_pylist()), [place + np.int32(1)]
    return users, ids


def _split_users(
    block: list[tuple[int, str]], users: _Users, faults: Faults, options: OfficialOptions
) -> tuple[list[int], list[str]]:
    """Numbers of the lines that hold a user, and what stands behind the users."""
    numbers: list[int] = []
    tails: list[str] = []
    for number, line in block:
        user, found, tail = line.partition("\t")
        if not found and not user.strip():
            users.counts["blank_lines"] += 1
            continue
        if is_missing(user) and found and options.missing_ids == "drop":
            users.counts["interactions_read"] += len(tail.split())
            users.counts["interactions_nameless"] += len(tail.split())
            continue
        told, way_on = _wrong_user(user, found, users.names)
        if told:
            faults.tell(number, told, way_on)
            continue
        users.names[user] = None
        numbers.append(number)
        tails.append(tail)
    return numbers, tails


def _wrong_user(user: str, tab: str, listed: Container[str]) -> tuple[str, str]:
    """What is wrong with the user of a line, and the way on; nothing where it is right."""
    if not tab:
        return "expected user TAB items separated by spaces", ""
    if is_missing(user):
        told = f"expected user TAB items separated by spaces; {missing_name('the user', user)}"
        return told, DROP_MISSING
    return (f"user {user!r} is listed twice", "") if user in listed else ("", "")


def _split_words(lines: list[str]) -> tuple[Any, NDArray[np.int64]]:
    """The words of all lines (an Arrow string array) and how many each line has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pc.ascii_split_whitespace(pa.array(lines, pa.large_string()))
    flat, bounds = words.flatten(), words.offsets.to_numpy()
    filled = pc.not_equal(pc.binary_length(flat), 0)
    # Leading, trailing and lone blanks give empty words, which are not items.
    kept = np.concatenate([[0], np.cumsum(filled.to_numpy(zero_copy_only=False))])
    return flat.filter(filled).cast(pa.string()), np.diff(kept[bounds]).astype(np.int64)
