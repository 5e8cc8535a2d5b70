"""Reading other people's files: one module per layout, one function for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Protocol

from odmt_fast.data.bounds import BOUNDS, Bounds, bounded
from odmt_fast.data.errors import DataError
from odmt_fast.data.filters import Filters, Log, assemble, settle_repeats, without_items
from odmt_fast.data.holdout import HoldOut
from odmt_fast.data.interactions import Interactions
from odmt_fast.data.readers import (
    amazon,
    hm,
    movielens,
    official,
    ready_made,
    recbole,
    steam,
    table,
)
from odmt_fast.data.readers.image_files import (
    MissingImages,
    broken_images,
    check_images,
    check_missing_images,
    without_images,
)


class Options(Protocol):
    """The dataclass of a reader's options."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True)
class Reader:
    """One layout.

    Attributes:
        options: the dataclass of its options.
        read: (folder, options) -> everything the folder holds.
        fits: whether a folder looks like this layout.
    """

    options: type[Any]
    read: Callable[[Path, Any], Log]
    fits: Callable[[Path], bool]


def _fits_table(folder: Path) -> bool:
    return any((folder / f"interactions{suffix}").exists() for suffix in table.SUFFIXES)


READERS: dict[str, Reader] = {
    "official": Reader(
        official.OfficialOptions,
        official.read_official,
        lambda folder: any(any(folder.glob(pattern)) for pattern in official.BEHAVIORS),
    ),
    "hm": Reader(hm.HmOptions, hm.read_hm, lambda folder: (folder / hm.TRANSACTIONS).is_file()),
    "table": Reader(table.TableOptions, table.read_table, _fits_table),
    "amazon": Reader(
        amazon.AmazonOptions,
        amazon.read_amazon,
        lambda folder: bool(amazon.json_files(folder, metadata=True)),
    ),
    "movielens": Reader(movielens.MovieLensOptions, movielens.read_movielens, movielens.fits),
    "recbole": Reader(recbole.RecBoleOptions, recbole.read_recbole, recbole.fits),
    "split": Reader(ready_made.ReadyMadeOptions, ready_made.read_ready_made, ready_made.fits),
    "steam": Reader(steam.SteamOptions, steam.read_steam, steam.fits),
}


def detect(path: str | PathLike[str]) -> str:
    """The kind of the folder `path`: one of ``READERS``.

    Raises:
        DataError: it is not a folder, or fits no layout or several.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise DataError(folder, "there is no such folder")
    kinds = [kind for kind, reader in READERS.items() if reader.fits(folder)]
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        raise DataError(folder, f"this fits several layouts ({', '.join(kinds)}); name the kind")
    found = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    parts = [name for name in found if {"train", "valid", "test"} & set(name.split("."))]
    if len(parts) > 1:
        raise DataError(
            folder,
            f"this seems to be a split already made ({', '.join(parts)}), but not one table "
            "(.csv, .tsv, .parquet, .inter) of each of train, valid and test: bring all three, or "
            "read one of them, to be split leave-one-out, with --kind table "
            "--option interactions=...",
        )
    shown = ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
    raise DataError(
        folder,
        f"this fits none of the layouts {', '.join(READERS)}; it holds {shown or 'nothing'}; name "
        "the layout with --kind and the files with --option",
    )


def read(
    path: str | PathLike[str],
    kind: str = "auto",
    *,
    options: Options | None = None,
    filters: Filters | None = None,
    holdout: HoldOut | None = None,
    decode_images: bool = True,
    missing_images: MissingImages = "refuse",
    limits: Bounds = BOUNDS,
) -> Interactions:
    """Reads and filters a folder of any known layout.

    Args:
        path: the folder.
        kind: a name of `READERS`, or "auto" to look.
        options: names of files and columns; None takes the defaults of the kind.
        filters: what to leave out; None is the official behaviour.
        holdout: what to keep from training; None is the official behaviour.
        decode_images: decode every picture that is kept once, so that a broken one is found now.
        missing_images: what becomes of an item whose picture cannot be read: "refuse" names the
            pictures, "allow" keeps the item without picture, "drop" leaves the item out, before
            the filters.
        limits: what is refused before memory is taken for it.

    Raises:
        DataError: something in the folder cannot be used; names file, line and reason.
        ValueError: `kind` is not known, `options` belongs to another kind, or there are no times
            that `holdout` asks for.
    """
    folder = Path(path)
    chosen = detect(folder) if kind == "auto" else kind
    if chosen not in READERS:
        raise ValueError(f"kind={kind!r} is not known; use auto, {', '.join(READERS)}")
    reader = READERS[chosen]
    if options is None:
        options = reader.options()
    if not isinstance(options, reader.options):
        raise ValueError(
            f"options must be {reader.options.__name__} for kind {chosen!r}, "
            f"got {type(options).__name__}"
        )
    check_missing_images(missing_images)
    with bounded(limits):
        log = reader.read(folder, options)
    return dataset_of(
        log,
        filters or Filters(),
        holdout,
        decode_images=decode_images,
        missing_images=missing_images,
        limits=limits,
    )


def dataset_of(
    log: Log,
    filters: Filters,
    holdout: HoldOut | None = None,
    *,
    decode_images: bool,
    missing_images: MissingImages,
    limits: Bounds = BOUNDS,
) -> Interactions:
    """What becomes of everything a source holds; arguments and errors are those of `read`."""
    log = settle_repeats(log, filters.repeats)
    interactions = assemble(log, filters, holdout)
    if not decode_images:
        return interactions
    if missing_images == "refuse":
        check_images(interactions.items, limits.pictures)
        return interactions
    broken = broken_images(interactions.items, limits.pictures)
    if not broken:
        return interactions
    names = {interactions.items.ids[row] for row in broken}
    rows = [row for row, item in enumerate(log.items.ids) if item in names]
    report = replace(log.report, images_broken=len(broken))
    log = replace(log, items=without_images(log.items, rows), report=report)
    log = without_items(log, rows) if missing_images == "drop" else log
    return assemble(log, filters, holdout)
