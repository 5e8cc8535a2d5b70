"""``odmt-fast prepare``: other people's files into a prepared dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from odmt_fast.cli.options import Json, MaxPixels
from odmt_fast.cli.output import Output
from odmt_fast.cli.overwrite import Overwrite, agreed
from odmt_fast.cli.settings import pairs

if TYPE_CHECKING:
    from odmt_fast.data.filters import Repeats
    from odmt_fast.data.holdout import Division
    from odmt_fast.data.readers.image_files import MissingImages

_COLUMNS = "Columns (fields of Amazon's lines)"
_FILES = "How the files are written"
_AWKWARD = "What becomes of awkward rows"
_KEPT = "What is kept"
_HELD_OUT = "What is kept from training"
_WORDS = {"yes": True, "no": False}


def prepare(
    source: Annotated[Path, typer.Argument(help="Folder with interactions and items.")],
    out: Annotated[Path, typer.Argument(help="Where the prepared dataset goes.")],
    kind: Annotated[
        str, typer.Option(help="A layout of docs/data.md by its name, or auto to look.")
    ] = "auto",
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Any option of the reader, such as interactions=log.csv or texts=title,brand "
            "(repeat).",
        ),
    ] = None,
    overwrite: Overwrite = False,
    user_column: Annotated[
        str | None, typer.Option(help="Who.", metavar="NAME", rich_help_panel=_COLUMNS)
    ] = None,
    item_column: Annotated[
        str | None,
        typer.Option(help="What, in both files.", metavar="NAME", rich_help_panel=_COLUMNS),
    ] = None,
    item_id_column: Annotated[
        str | None,
        typer.Option(
            help="What, in the file of items, where it is named otherwise.",
            metavar="NAME",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(
            help="When: numbers, dates or ISO 8601 texts.", metavar="NAME", rich_help_panel=_COLUMNS
        ),
    ] = None,
    text_columns: Annotated[
        str | None,
        typer.Option(
            help="Texts of the items, joined by '. '.",
            metavar="NAME,NAME...",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            help="Paths of pictures, relative to the file of items.",
            metavar="NAME",
            rich_help_panel=_COLUMNS,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="Folder of ITEM.jpg, or an LMDB, below SOURCE.",
            metavar="PATH",
            show_default="images/",
            rich_help_panel=_FILES,
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            help="Such as latin-1, cp1252 or utf-16; items.csv=utf-16 is of that file alone.",
            show_default="utf-8",
            rich_help_panel=_FILES,
        ),
    ] = None,
    delimiter: Annotated[
        str | None,
        typer.Option(
            help="Between the columns of a CSV: ';', tab, '::' ...; 'items.csv=;' is of that "
            "file alone.",
            show_default="a TAB in .tsv, .inter, .item; else a comma",
            rich_help_panel=_FILES,
        ),
    ] = None,
    quotes: Annotated[
        bool | None,
        typer.Option(
            "--quotes/--no-quotes",
            help="Fields of a CSV may stand in quotation marks, or those are letters.",
            show_default="quotes, but not between TABs",
            rich_help_panel=_FILES,
        ),
    ] = None,
    time_unit: Annotated[
        str | None,
        typer.Option(
            help="Of times that are numbers: s, ms, us, ns, auto (one of these, or any numbers), "
            "or none to take them as they are.",
            show_default="auto",
            rich_help_panel=_FILES,
        ),
    ] = None,
    missing_ids: Annotated[
        str | None,
        typer.Option(
            help="Rows whose user or item is blank, nan or NULL: error, or drop.",
            show_default="error",
            rich_help_panel=_AWKWARD,
        ),
    ] = None,
    unknown_items: Annotated[
        str | None,
        typer.Option(
            help="Interactions with items that are not in the table of items: error, or drop.",
            show_default="error; amazon: drop",
            rich_help_panel=_AWKWARD,
        ),
    ] = None,
    repeats: Annotated[
        str,
        typer.Option(
            help="keep all, drop rows that repeat user, item and time, or collapse runs of one "
            "item. All are counted.",
            rich_help_panel=_AWKWARD,
        ),
    ] = "keep",
    missing_images: Annotated[
        str,
        typer.Option(
            help="Pictures that cannot be read: refuse, allow (items without picture), or drop the "
            "items.",
            rich_help_panel=_AWKWARD,
        ),
    ] = "refuse",
    check_images: Annotated[
        bool,
        typer.Option(
            help="Decode every picture once, to find broken ones now.", rich_help_panel=_AWKWARD
        ),
    ] = True,
    max_pixels: MaxPixels = None,
    max_line_bytes: Annotated[
        int | None,
        typer.Option(
            help="Longest line of a file, unpacked.",
            show_default="64 MiB",
            rich_help_panel=_AWKWARD,
        ),
    ] = None,
    max_columns: Annotated[
        int | None,
        typer.Option(
            help="Most columns of a table.", show_default="10,000", rich_help_panel=_AWKWARD
        ),
    ] = None,
    min_length: Annotated[
        int, typer.Option(help="Drop users with fewer interactions.", rich_help_panel=_KEPT)
    ] = 5,
    k_core: Annotated[
        int,
        typer.Option(
            help="Drop users and items with fewer interactions, until none is left.",
            rich_help_panel=_KEPT,
        ),
    ] = 1,
    keep_last: Annotated[
        int | None,
        typer.Option(
            help="Keep so many last items of a user; officially max_seq_len + 3.",
            rich_help_panel=_KEPT,
        ),
    ] = None,
    keep_unbought: Annotated[
        bool,
        typer.Option(
            "--keep-unbought",
            help="Keep items that nobody bought, where they have a text or a picture.",
            show_default=False,
            rich_help_panel=_KEPT,
        ),
    ] = False,
    split: Annotated[
        str,
        typer.Option(
            help="leave-one-out (or as the source was split), or time: the same times for all.",
            rich_help_panel=_HELD_OUT,
        ),
    ] = "leave-one-out",
    valid_share: Annotated[
        float,
        typer.Option(
            help="Least share of the interactions that validate, by time.",
            rich_help_panel=_HELD_OUT,
        ),
    ] = 0.1,
    test_share: Annotated[
        float,
        typer.Option(
            help="Least share of the interactions that test, by time.", rich_help_panel=_HELD_OUT
        ),
    ] = 0.1,
    cold_items: Annotated[
        float,
        typer.Option(
            help="Share of the items that training knows nothing of.", rich_help_panel=_HELD_OUT
        ),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(help="Decides which items are cold.", rich_help_panel=_HELD_OUT)
    ] = 1,
    json_output: Json = False,
) -> None:
    """Read interactions, texts and pictures into a dataset the other commands use.

    docs/data.md shows every layout, column and option with an example.
    """
    from odmt_fast.data import Filters, HoldOut, detect, read
    from odmt_fast.data.bounds import BOUNDS
    from odmt_fast.data.store import MANIFEST

    output = Output(json_output)
    chosen = detect(source) if kind == "auto" else kind
    given = {
        "user": user_column,
        "item": item_column,
        "item_id": item_id_column,
        "timestamp": time_column,
        "texts": text_columns,
        "image": image_column,
        "images": images,
        "encoding": encoding,
        "delimiter": delimiter,
        "quotes": quotes,
        "time_unit": time_unit,
        "missing_ids": missing_ids,
        "unknown_items": unknown_items,
    }
    options = reader_options(chosen, option or (), given)
    filters = Filters(
        min_seq_len=min_length,
        k_core=k_core,
        keep_last=keep_last,
        repeats=cast("Repeats", repeats),
        keep_unbought=keep_unbought,
    )
    holdout = HoldOut(cast("Division", split), valid_share, test_share, cold_items, seed)
    limits = BOUNDS.updated(line_bytes=max_line_bytes, columns=max_columns, max_pixels=max_pixels)
    if (out / MANIFEST).exists() and not overwrite and not agreed(f"{out} holds a dataset"):
        raise ValueError(
            f"{out} holds a dataset; pass --overwrite to replace it once the new one is read, or "
            "name another folder"
        )
    output.note(f"reading {source} ({chosen})")
    data = read(
        source,
        chosen,
        options=options,
        filters=filters,
        holdout=holdout,
        decode_images=check_images,
        missing_images=cast("MissingImages", missing_images),
        limits=limits,
    )
    data.save(out)
    output.result(
        {"dataset": out, "report": asdict(data.report)},
        lambda console: console.print("\n".join((*data.report.lines(), f"saved to {out}"))),
    )


def reader_options(
    kind: str, assignments: Iterable[str], flags: Mapping[str, str | bool | None] | None = None
) -> Any:
    """The options dataclass of a reader.

    Args:
        kind: the reader.
        assignments: ``name=value`` words; lists are split at commas.
        flags: name of an option -> value of its flag; None values were not given.

    Raises:
        ValueError: the reader has no such option, it is given twice, or a value is refused.
    """
    from odmt_fast.data import READERS
    from odmt_fast.data.readers.options import flag

    if kind not in READERS:
        raise ValueError(f"--kind {kind} is not known; use auto, {', '.join(READERS)}")
    options = READERS[kind].options
    defaults = {field.name: field.default for field in fields(options)}
    values: dict[str, Any] = dict(pairs(assignments, "--option"))
    for name in values:
        if name not in defaults:
            raise ValueError(
                f"--option {name} does not exist for {kind}; it has {', '.join(defaults)}"
            )
    for name, value in (flags or {}).items():
        if value is None:
            continue
        if name not in defaults:
            takes = [flag(other) for other in flags or {} if other in defaults]
            raise ValueError(f"{flag(name)} is not for --kind {kind}; it takes {', '.join(takes)}")
        if name in values:
            raise ValueError(f"{flag(name)} and --option {name}= are both given; keep one")
        values[name] = value
    return options(**{name: _parsed(name, value, defaults) for name, value in values.items()})


def _parsed(name: str, value: str | bool, defaults: Mapping[str, Any]) -> Any:
    if name == "quotes" and isinstance(value, str):
        if value not in _WORDS:
            raise ValueError(f"--option quotes={value} does not exist; use {', '.join(_WORDS)}")
        return _WORDS[value]
    if isinstance(defaults[name], float):
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"--option {name}={value} must be a number") from None
    return tuple(str(value).split(",")) if isinstance(defaults[name], tuple) else value
