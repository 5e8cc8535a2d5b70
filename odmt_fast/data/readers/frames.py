"""Interactions and items as two frames in memory, read by the rules of the table reader.

A frame is whatever `pyarrow.table` takes: one of pandas, polars or any other library that offers
``__arrow_c_stream__``, an Arrow table, or a dict of columns. Columns are shared, not copied, where
their library keeps them as Arrow does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Log
from odmt_fast.data.readers.catalogue import Catalogue
from odmt_fast.data.readers.faults import Faults
from odmt_fast.data.readers.gather import Source, Titles, gather
from odmt_fast.data.readers.headers import check_columns
from odmt_fast.data.readers.options import TabularOptions
from odmt_fast.data.readers.table import items_of_blocks
from odmt_fast.data.report import Report

INTERACTIONS, ITEMS = Path("<interactions>"), Path("<items>")
"""What errors call the two frames."""
_BLOCK_ROWS = 1 << 20


def read_frames(
    interactions: Any,
    items: Any | None,
    images: Path | None,
    titles: Titles,
    item_id: str,
    texts: tuple[str, ...],
    image: str | None,
    options: TabularOptions,
) -> Log:
    """Reads the two frames.

    Args:
        interactions: a row per interaction.
        items: a row per item; None takes the items that occur.
        images: a folder of <item>.jpg or an LMDB; of an image column, the folder of its paths.
        titles: columns of the interactions.
        item_id: column of the item in `items`.
        texts: columns of `items` whose texts are joined.
        image: column of `items` with the path of a picture, relative to `images`.
        options: what becomes of missing names, unknown items and times.

    Raises:
        DataError: a column is missing; a value is missing or malformed; an item is listed twice, or
            unknown.
        ValueError: there is an image column and no folder for it.
    """
    catalogue = None
    if items is not None:
        catalogue = frame_catalogue(items, images, item_id, texts, image, options)
    named = {"user": titles.user, "item": titles.item, "timestamp": titles.timestamp}
    flags = {title: f"{name}=" for name, title in named.items() if title}
    return gather(
        [Source(_blocks(interactions, INTERACTIONS, flags), _faults(INTERACTIONS))],
        titles,
        catalogue,
        None if image else images,
        Report(kind="frames", source=_kind(interactions)),
        options,
        time_unit=options.time_unit,
    )


def frame_catalogue(
    items: Any,
    images: Path | None,
    item_id: str,
    texts: tuple[str, ...],
    image: str | None,
    options: TabularOptions,
) -> Catalogue:
    """The frame of items; arguments and errors are those of `read_frames`."""
    if image and images is None:
        raise ValueError(
            f"image={image!r} holds paths of pictures; name the folder they start from by images="
        )
    flags = {item_id: "item_id=", **dict.fromkeys(texts, "texts=")}
    if image:
        flags[image] = "image="
    found = items_of_blocks(
        _blocks(items, ITEMS, flags), item_id, texts, image, _faults(ITEMS), options
    )
    return replace(found, path=images / ITEMS) if image and images else found


def _blocks(frame: Any, name: Path, flags: Mapping[str, str]) -> Iterator[Any]:
    """Arrow record batches of the columns that `flags` names.

    Raises:
        DataError: a column is missing, or `frame` is none.
    """
    import pyarrow as pa

    wanted = list(flags)
    try:
        table = pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            name,
            f"{_kind(frame)} cannot be read as a table: {error}; give a frame of pandas or polars, "
            "an Arrow table, or a dict of columns",
        ) from error
    check_columns(name, wanted, table.column_names, flags)
    yield from table.select(wanted).to_batches(max_chunksize=_BLOCK_ROWS)


def _faults(name: Path) -> Faults:
    return Faults(name, lambda rows: [row + 1 for row in rows])


def _kind(frame: Any) -> str:
    """Such as "pandas.DataFrame"."""
    kind = type(frame)
    library = kind.__module__.partition(".")[0]
    return kind.__qualname__ if library == "builtins" else f"{library}.{kind.__qualname__}"
