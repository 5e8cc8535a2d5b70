"""The layout of the official data sets: behaviours, texts and pictures, one file or folder each.

``behaviors.tsv`` (or ``*_user_behaviours.tsv``, ``*_pick_users_*.tsv``, ``*_pairs.tsv``): one user
per line, user TAB items separated by spaces, oldest first. ``text.tsv`` (or ``*_text.tsv``,
``*_pick_items_*.tsv``, ``*_title.csv``): item TAB (in a .csv: comma) text. Pictures: a folder
``images/`` of <item>.jpg or .png, or an LMDB ``*image*.lmdb`` / ``*cover*.lmdb``.

Source: official utils/load_data.py, utils/dataset_config.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers.image_files import match_images
from odmt_fast.data.readers.lines import utf8_lines
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
        raise DataError(path, f"no item texts here; expected {' or '.join(TEXTS)}")
    ids, texts, blank_texts = _read_texts(text)
    matches = match_images(images, ids)
    users, sequences, blank_users = _read_behaviors(behaviors, text, ids)
    return Log(
        users=users,
        items=ItemTable(ids, texts, matches.images),
        sequences=sequences,
        report=Report(
            kind="official",
            source=str(path),
            interactions_read=sequences.items.size,
            blank_lines=blank_texts + blank_users,
            **matches.counts,
        ),
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
        texts[item] = " ".join(text.split()) or None
    return tuple(texts), tuple(texts.values()), blank


def _read_behaviors(
    path: Path, items_path: Path, ids: tuple[str, ...]
) -> tuple[tuple[str, ...], Sequences, int]:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pa.array(ids, pa.string())
    users: dict[str, None] = {}
    items: list[NDArray[np.int32]] = []
    lengths: list[NDArray[np.int64]] = []
    blank = 0
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
        codes = pc.index_in(names, value_set=known)
        if codes.null_count:
            at = int(np.flatnonzero(codes.is_null().to_numpy(zero_copy_only=False))[0])
            line_at = numbers[int(np.searchsorted(np.cumsum(counts), at, side="right"))]
            raise DataError(
                path, f"item {names[at].as_py()!r} is not in {items_path.name}", line=line_at
            )
        items.append(codes.to_numpy() + np.int32(1))
        lengths.append(counts)
    flat = np.concatenate(items) if items else np.empty(0, np.int32)
    per_user = np.concatenate(lengths) if lengths else np.empty(0, np.int64)
    return tuple(users), Sequences.from_lengths(flat, per_user), blank


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
