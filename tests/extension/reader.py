"""A reader of somebody else: one line a user, ``user>item,item,...``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from odmt_fast.data.filters import Log
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers import Reader
from odmt_fast.data.report import Report
from odmt_fast.data.sequences import Sequences


@dataclass(frozen=True)
class ArrowOptions:
    """None."""


def read_arrows(folder: Path, options: ArrowOptions) -> Log:
    lines = (folder / "arrows.txt").read_text().splitlines()
    users = [line.partition(">")[0] for line in lines]
    bought = [line.partition(">")[2].split(",") for line in lines]
    ids = sorted({item for items in bought for item in items})
    rows = {item: row for row, item in enumerate(ids, start=1)}
    texts = tuple(f"the {item}" for item in ids)
    return Log(
        users=tuple(users),
        items=ItemTable(tuple(ids), texts, (None,) * len(ids)),
        sequences=Sequences.from_lists([[rows[item] for item in items] for items in bought]),
        report=Report(kind="arrows", source=str(folder)),
    )


ARROWS = Reader(ArrowOptions, read_arrows, lambda folder: (folder / "arrows.txt").is_file())
