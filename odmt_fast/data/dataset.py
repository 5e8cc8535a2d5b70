"""`Dataset`: what people make of their own frames."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Filters
from odmt_fast.data.holdout import HoldOut
from odmt_fast.data.interactions import Interactions
from odmt_fast.data.items import ItemTable
from odmt_fast.data.readers import dataset_of
from odmt_fast.data.readers.catalogue import catalogue_items
from odmt_fast.data.readers.frames import frame_catalogue, read_frames
from odmt_fast.data.readers.gather import Titles
from odmt_fast.data.readers.image_files import MissingImages, check_missing_images
from odmt_fast.data.readers.options import Rule, TabularOptions
from odmt_fast.data.readers.times import TimeUnit

_FLAG = re.compile(r"--([a-z][a-z-]*) ([a-z]+)")


class Dataset(Interactions):
    """`Interactions`, made from frames; all that takes one takes the other."""

    @classmethod
    def from_frames(
        cls,
        interactions: Any,
        items: Any | None = None,
        images: str | PathLike[str] | None = None,
        *,
        user: str = "user",
        item: str = "item",
        timestamp: str | None = "timestamp",
        item_id: str | None = None,
        texts: Sequence[str] = ("text",),
        image: str | None = None,
        time_unit: TimeUnit = "auto",
        unknown_items: Rule = "error",
        missing_ids: Rule = "error",
        filters: Filters | None = None,
        holdout: HoldOut | None = None,
        decode_images: bool = True,
        missing_images: MissingImages = "refuse",
    ) -> Dataset:
        """The dataset that the same tables read from files would give.

        A frame is one of pandas, polars or another library with ``__arrow_c_stream__``, an Arrow
        table, or a dict of columns. Ids are texts or integers; integers become texts.

        Args:
            interactions: a row per interaction.
            items: a row per item; None takes the items that occur.
            images: a folder of <item>.jpg or an LMDB; of an image column, the folder of its paths.
            user, item, timestamp: columns of the interactions; timestamp=None takes the rows of a
                user to be in order.
            item_id: column of the item in `items`; None = as in the other frame.
            texts: columns of `items` whose texts are joined by ". "; () takes none.
            image: column of `items` with the path of a picture.
            time_unit: of times that are numbers: s, ms, us, ns, auto or none.
            unknown_items: "drop" leaves interactions with items that `items` lacks out.
            missing_ids: "drop" leaves rows without user or item out.
            filters, holdout, decode_images, missing_images: see `odmt_fast.data.read`.

        Raises:
            DataError: a column or value is missing or malformed; names frame, row and reason.
            ValueError: an argument is none of those it takes.
        """
        with _arguments_named():
            check_missing_images(missing_images)
            options = TabularOptions(
                unknown_items=unknown_items, missing_ids=missing_ids, time_unit=time_unit
            )
            log = read_frames(
                interactions,
                items,
                None if images is None else Path(images),
                Titles(user, item, timestamp),
                item_id or item,
                _several(texts),
                image,
                options,
            )
            made = dataset_of(
                log,
                filters or Filters(),
                holdout,
                decode_images=decode_images,
                missing_images=missing_images,
            )
        return cls(made.users, made.items, made.sequences, made.report, made.parts)


def items_of_frame(
    items: Any,
    images: str | PathLike[str] | None = None,
    *,
    item: str = "item",
    texts: Sequence[str] = ("text",),
    image: str | None = None,
) -> ItemTable:
    """A catalogue from a frame with a row per item, all of them, in its order.

    Arguments and errors are those of `Dataset.from_frames`; every picture is decoded once.
    """
    folder = None if images is None else Path(images)
    with _arguments_named():
        found = frame_catalogue(items, folder, item, _several(texts), image, TabularOptions())
        return catalogue_items(found, folder)


def _several(texts: Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


@contextmanager
def _arguments_named() -> Iterator[None]:
    """Errors of the readers, with the arguments of Python instead of the command line's flags."""
    try:
        yield
    except DataError as error:
        raise DataError(error.file, _as_arguments(error.reason), line=error.line) from error
    except ValueError as error:
        raise ValueError(_as_arguments(str(error))) from error


def _as_arguments(message: str) -> str:
    """`message` with the flags of the command line as arguments of Python."""
    return _FLAG.sub(lambda found: f'{found[1].replace("-", "_")}="{found[2]}"', message)
