"""``odmt-fast prepare``: other people's files into a prepared dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from odmt_fast.cli.options import Json, MaxPixels
from odmt_fast.cli.output import Output
from odmt_fast.cli.settings import pairs

if TYPE_CHECKING:
    from odmt_fast.data.filters import Repeats
    from odmt_fast.data.readers.image_files import MissingImages


def prepare(
    source: Annotated[Path, typer.Argument(help="Folder with interactions and items.")],
    out: Annotated[Path, typer.Argument(help="Where the prepared dataset goes.")],
    kind: Annotated[
        str, typer.Option(help="official, amazon, hm, table, or auto to look.")
    ] = "auto",
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Option of the reader, such as texts=title,brand or timestamp=time (repeat).",
        ),
    ] = None,
    min_length: Annotated[int, typer.Option(help="Drop users with fewer interactions.")] = 5,
    k_core: Annotated[
        int, typer.Option(help="Drop users and items with fewer interactions, until none is left.")
    ] = 1,
    keep_last: Annotated[
        int | None,
        typer.Option(help="Keep so many last items of a user; officially max_seq_len + 3."),
    ] = None,
    repeats: Annotated[
        str,
        typer.Option(
            help="keep all, drop rows that repeat user, item and time, or collapse runs of one "
            "item. All are counted."
        ),
    ] = "keep",
    missing_images: Annotated[
        str,
        typer.Option(
            help="Pictures that cannot be read: refuse, allow (items without picture), or drop the "
            "items."
        ),
    ] = "refuse",
    check_images: Annotated[
        bool, typer.Option(help="Decode every picture once, to find broken ones now.")
    ] = True,
    max_pixels: MaxPixels = None,
    max_line_bytes: Annotated[
        int | None,
        typer.Option(help="Longest line of a file, unpacked.", show_default="64 MiB"),
    ] = None,
    max_columns: Annotated[
        int | None, typer.Option(help="Most columns of a table.", show_default="10,000")
    ] = None,
    json_output: Json = False,
) -> None:
    """Read interactions, texts and pictures into a dataset the other commands use."""
    from odmt_fast.data import Filters, detect, read
    from odmt_fast.data.bounds import BOUNDS

    output = Output(json_output)
    chosen = detect(source) if kind == "auto" else kind
    output.note(f"reading {source} ({chosen})")
    data = read(
        source,
        chosen,
        options=reader_options(chosen, option or ()),
        filters=Filters(
            min_seq_len=min_length,
            k_core=k_core,
            keep_last=keep_last,
            repeats=cast("Repeats", repeats),
        ),
        decode_images=check_images,
        missing_images=cast("MissingImages", missing_images),
        limits=BOUNDS.updated(
            line_bytes=max_line_bytes, columns=max_columns, max_pixels=max_pixels
        ),
    )
    data.save(out)
    output.result(
        {"dataset": out, "report": asdict(data.report)},
        lambda console: console.print("\n".join((*data.report.lines(), f"saved to {out}"))),
    )


def reader_options(kind: str, assignments: Iterable[str]) -> Any:
    """The options dataclass of a reader from ``name=value`` words; lists are split at commas.

    Raises:
        ValueError: the reader has no such option.
    """
    from odmt_fast.data import READERS

    if kind not in READERS:
        raise ValueError(f"--kind {kind} is not known; use auto, {', '.join(READERS)}")
    options = READERS[kind].options
    defaults = {field.name: field.default for field in fields(options)}
    values: dict[str, Any] = {}
    for name, value in pairs(assignments, "--option").items():
        if name not in defaults:
            raise ValueError(
                f"--option {name} does not exist for {kind}; it has {', '.join(defaults)}"
            )
        values[name] = tuple(value.split(",")) if isinstance(defaults[name], tuple) else value
    return options(**values)
