"""``odmt-fast extract --vectors``: from the file to what is stored of each item."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from odmt_fast.data import ItemTable
    from odmt_fast.features.vectors import Vector, VectorTokens

_NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)
# Branches and rankings that every model may have.
_TAKEN = ("id", "ensemble", "popularity")
_RULES = ("error", "allow")


@dataclass(frozen=True)
class GivenVectors:
    """What ``--vectors`` comes to.

    Attributes:
        encoder: makes a token of each.
        inputs: one of each item, None where there is none.
        unknown: vectors of items that the dataset lacks.
    """

    encoder: VectorTokens
    inputs: tuple[Vector | None, ...]
    unknown: int


def check_name(modality: str, items: ItemTable, out: Path | None) -> None:
    """Raises a ValueError for a modality that training would not find under this name."""
    if not _NAME.fullmatch(modality) or modality in _TAKEN:
        raise ValueError(
            f"--modality {modality!r} must be a word of letters, digits and _, and not "
            f"{', '.join(_TAKEN)}"
        )
    if modality in ("text", "image") and modality not in items.modalities and out is None:
        raise ValueError(
            f"--modality {modality}: the dataset has none, so train would not look for it; choose "
            f"another name, or --out DIR here and --store {modality}=DIR there"
        )


def given_vectors(
    items: ItemTable, path: Path, ids: Path | None, columns: str, missing: str
) -> GivenVectors:
    """The vectors of `path` in the order of `items`.

    Raises:
        ValueError: an option does not exist, (DataError) the file has faults, or an item has no
            vector and `missing` is not "allow".
    """
    from odmt_fast.data.vectors import read_vectors
    from odmt_fast.features.vectors import Vector, VectorTokens

    if missing not in _RULES:
        raise ValueError(f"--missing-vectors {missing} does not exist; use {' or '.join(_RULES)}")
    item, comma, vector = columns.partition(",")
    if not (item and comma and vector):
        raise ValueError(f"--vector-columns {columns!r} must read ITEM,VECTOR")
    found = read_vectors(path, ids, (item, vector))
    inputs = tuple(Vector(found.rows[i]) if i in found.rows else None for i in items.ids)
    absent = [name for name, value in zip(items.ids, inputs, strict=True) if value is None]
    if len(absent) == len(items):
        raise ValueError(
            f"--vectors {path}: none of its items is in the dataset; it has "
            f"{next(iter(found.rows))!r}, the dataset {absent[0]!r}"
        )
    if absent and missing == "error":
        raise ValueError(
            f"--vectors {path}: {len(absent):,} of {len(items):,} items have no vector, first "
            f"{absent[0]!r}; --missing-vectors allow gives them one zero token each"
        )
    return GivenVectors(
        VectorTokens(found.width), inputs, len(found.rows) - len(items) + len(absent)
    )
