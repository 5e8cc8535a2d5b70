"""Vectors of items, made elsewhere: a Parquet file of ids and lists, or a .npy beside its ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError, place
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.lines import require_file, utf8_lines
from odmt_fast.data.readers.tabular import blocks
from odmt_fast.data.readers.values import is_missing, names

_Row = tuple[int, str, NDArray[Any] | None]
"""Place (from 1), item, float32 [d]; None where the file says that there is none."""


@dataclass(frozen=True, eq=False)
class ItemVectors:
    """Vectors by item.

    Attributes:
        rows: item -> float32 [width], finite.
        width: d.
    """

    rows: dict[str, NDArray[Any]]
    width: int


def read_vectors(
    path: Path, ids: Path | None = None, columns: tuple[str, str] = ("item", "vector")
) -> ItemVectors:
    """Reads the vectors of items.

    Args:
        path: a .parquet file or folder of such; or a .npy [n, d] of real numbers.
        ids: of a .npy: a text file with the item of each row, one a line.
        columns: of a .parquet: that of the items and that of the lists of d real numbers; a null
            is no vector.

    Raises:
        DataError: the file cannot be read, holds no vector, or has faults, which are named by row:
            an item is missing or listed twice, a vector has another width than the first, or is
            not finite.
    """
    if path.suffix == ".npy":
        if ids is None:
            raise ValueError(f"--vectors {path} has no ids; name their file with --vector-ids FILE")
        return _gathered(_of_array(path, ids), Faults(ids))
    if path.suffix != ".parquet":
        raise ValueError(f"--vectors {path} must be a .parquet or a .npy file")
    if ids is not None:
        raise ValueError(f"--vector-ids is of .npy files, and {path} is Parquet; leave it out")
    return _gathered(_of_parquet(path, *columns), Faults(path))


def _gathered(rows: Iterator[_Row], faults: Faults) -> ItemVectors:
    found: dict[str, NDArray[Any]] = {}
    seen: dict[str, int] = {}
    width = None
    for number, item, vector in rows:
        if is_missing(item):
            faults.tell(number, "its item is missing")
        elif item in seen:
            where = f"{place(faults.path)} {seen[item]}"
            faults.tell(number, f"item {item!r} is listed twice, first in {where}")
        elif vector is not None:
            width = len(vector) if width is None else width
            if len(vector) != width:
                wanted = f"the first has {width}"
                faults.tell(number, f"item {item!r} has a vector of {len(vector)}, {wanted}")
            elif not np.isfinite(vector).all():
                faults.tell(number, f"item {item!r} has a NaN or infinite number")
            found[item] = vector
        seen[item] = number
    faults.check()
    if not width:
        raise DataError(faults.path, "there is no vector here")
    return ItemVectors(found, width)


def _of_parquet(path: Path, item: str, vector: str) -> Iterator[_Row]:
    import pyarrow as pa

    row = 1
    columns = dict.fromkeys((item, vector), "--vector-columns")
    for block in blocks(path, (item, vector), flags=columns):
        lists = block[vector]
        kind = lists.type
        listed = (
            pa.types.is_list(kind)
            or pa.types.is_large_list(kind)
            or pa.types.is_fixed_size_list(kind)
        )
        if not listed or not (
            pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
        ):
            raise DataError(
                path,
                f"column {vector!r} holds {kind}, not lists of numbers; name it with "
                "--vector-columns ITEM,VECTOR",
            )
        items = names(block[item], item, row - 1, Faults(path), refuse=False).to_pylist()
        for name, found in zip(items, lists, strict=True):
            values = found.values if found.is_valid else None
            yield row, name, None if values is None else _float32(values.to_numpy(False))
            row += 1


def _of_array(path: Path, ids: Path) -> Iterator[_Row]:
    require_file(path)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(path, f"this is not a readable .npy file: {error}") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise DataError(path, f"{array.dtype} {list(array.shape)}, not real numbers [n, d]")
    items: Sequence[tuple[int, str]] = [
        (number, line.rstrip("\r\n")) for number, line in utf8_lines(ids)
    ]
    if len(items) != len(array):
        raise DataError(ids, f"{len(items):,} ids for the {len(array):,} vectors of {path}")
    for (number, item), vector in zip(items, array, strict=True):
        yield number, item, _float32(vector)


def _float32(values: NDArray[Any]) -> NDArray[Any]:
    # What float32 cannot hold becomes infinite, and is a fault like any infinity.
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)
