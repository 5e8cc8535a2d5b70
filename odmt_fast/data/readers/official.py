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
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.columns import NameColumn, Unknown, alike
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.lines import utf8_lines
from odmt_fast.data.readers.table import join_texts
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


@dataclass(frozen=True)
class OfficialOptions:
    """Names inside the folder; None finds them by the official patterns.

    Attributes:
        behaviors: the file of user sequences.
        text: the file of item texts.
        images: the image folder or LMDB.
        unknown_items: "error" refuses a sequence with an item that the text file lacks, "drop"
            leaves the item out of it and counts it.
    """

    behaviors: str | None = None
    text: str | None = None
    images: str | None = None
    unknown_items: Unknown = "error"


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
    listed, blank_texts = None, 0
    if text is None:
        _check_no_texts(path, behaviors)
    else:
        listed, texts, blank_texts = _read_texts(text)
    users, ids, sequences, blank_users, unknown = _read_behaviors(
        behaviors, text, listed, options.unknown_items
    )
    if listed is None:
        texts = (None,) * len(ids)
    matches = match_images(images, ids)
    return Log(
        users=users,
        items=ItemTable(ids, texts, matches.images),
        sequences=sequences,
        report=Report(
            kind="official" if text else "official, no texts",
            source=str(path),
            interactions_read=sequences.items.size + unknown,
            interactions_unknown=unknown,
            blank_lines=blank_texts + blank_users,
            **matches.counts,
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


def _read_texts(path: Path) -> tuple[tuple[str, ...], tuple[str | None, ...], int]:
    separator, name = (",", "comma") if path.suffix == ".csv" else ("\t", "TAB")
    texts: dict[str, str | None] = {}
    blank = 0
    for number, line in utf8_lines(path):
        if not line.strip():
            blank += 1
            continue
        item, found, text = line.partition(separator)
        if not found:
            raise DataError(path, f"no {name} between item and text", line=number)
        if not item or any(letter.isspace() for letter in item):
            raise DataError(path, f"{item!r} is not an item name (no spaces)", line=number)
        if item in texts:
            raise DataError(path, f"item {item!r} is listed twice", line=number)
        if path.suffix == ".csv" and text.startswith('"'):
            text = _unquoted(path, number, text)
        texts[item] = join_texts((text,))
    return tuple(texts), tuple(texts.values()), blank


def _unquoted(path: Path, number: int, text: str) -> str:
    """What a quoted field of a CSV says."""
    try:
        return ",".join(next(csv.reader([text], strict=True)))
    except csv.Error as error:
        raise DataError(path, f"the quoted text is damaged: {error}", line=number) from error


def _read_behaviors(
    path: Path, items_path: Path | None, ids: tuple[str, ...] | None, unknown: Unknown
) -> tuple[tuple[str, ...], tuple[str, ...], Sequences, int, int]:
    """Users, the catalogue, their items, blank lines, and how many items were left out.

    The catalogue is `ids`; without them, the items in order of first appearance.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pa.array(ids or (), pa.string())
    unlisted = NameColumn()
    users: dict[str, None] = {}
    items: list[NDArray[np.int32]] = []
    lengths: list[NDArray[np.int64]] = []
    blank, left_out = 0, 0
    source = utf8_lines(path)
    while block := list(islice(source, USERS_A_BLOCK)):
        numbers: list[int] = []
        tails: list[str] = []
        for number, line in block:
            user, found, tail = line.partition("\t")
            if not found and not user.strip():
                blank += 1
                continue
            if not user.strip() or not found:
                raise DataError(path, "expected user TAB items separated by spaces", line=number)
            if user in users:
                raise DataError(path, f"user {user!r} is listed twice", line=number)
            users[user] = None
            numbers.append(number)
            tails.append(tail)
        names, counts = _split_words(tails)
        if ids is None or items_path is None:
            unlisted.add(names)
            lengths.append(counts)
            continue
        codes = pc.index_in(names, value_set=known)
        if codes.null_count and unknown == "error":
            at = int(np.flatnonzero(codes.is_null().to_numpy(zero_copy_only=False))[0])
            line_at = numbers[int(np.searchsorted(np.cumsum(counts), at, side="right"))]
            name = names[at].as_py()
            raise DataError(
                path,
                f"item {name!r} is not in {items_path.name}{alike(name, ids)} "
                "(--option unknown_items=drop goes on without it)",
                line=line_at,
            )
        dense = codes.fill_null(-1).to_numpy() + np.int32(1)
        known_here = dense > 0
        left_out += int(dense.size - known_here.sum())
        owner = np.repeat(np.arange(counts.size), counts)[known_here]
        items.append(dense[known_here])
        lengths.append(np.bincount(owner, minlength=counts.size).astype(np.int64))
    if ids is None:
        place, catalogue = unlisted.finish()
        ids, items = tuple(catalogue.to_pylist()), [place + np.int32(1)]
    flat = np.concatenate(items) if items else np.empty(0, np.int32)
    per_user = np.concatenate(lengths) if lengths else np.empty(0, np.int64)
    return tuple(users), ids, Sequences.from_lengths(flat, per_user), blank, left_out


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
