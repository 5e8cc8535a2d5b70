"""``odmt-fast add-items``: products nobody has bought, into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from odmt_fast.cli.options import Checkpoint, Data, Device, Json, OtherFeatures, Store
from odmt_fast.cli.output import Output
from odmt_fast.cli.overwrite import Overwrite
from odmt_fast.cli.recommend import opened


def add_items(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|BUNDLE", help="A training run, or what export made.")
    ],
    items: Annotated[Path, typer.Argument(help="Table of the new items: CSV or Parquet.")],
    images: Annotated[
        Path | None, typer.Argument(help="Folder of ITEM.jpg, or an LMDB.", show_default=False)
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the bundle goes.", show_default="BUNDLE itself"),
    ] = None,
    item_id_column: Annotated[str, typer.Option(help="Their ids.", metavar="NAME")] = "item",
    text_columns: Annotated[
        str, typer.Option(help="Their texts, joined by '. '.", metavar="NAME,NAME...")
    ] = "text",
    image_column: Annotated[
        str | None,
        typer.Option(help="Paths of pictures, relative to the table.", metavar="NAME"),
    ] = None,
    skip_known: Annotated[
        bool,
        typer.Option(
            "--skip-known",
            help="Leave out the items of the table that are in the catalogue already.",
            show_default=False,
        ),
    ] = False,
    overwrite: Overwrite = False,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    store: Store = None,
    allow_other_features: OtherFeatures = False,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Encode new items by their texts and pictures; they are recommended at once.

    The vectors of the others stay as they are, to the bit. Of a run, a bundle is made.
    """
    from odmt_fast.data.readers.catalogue import catalogue_items
    from odmt_fast.data.readers.table import TableOptions, read_items
    from odmt_fast.retrieval.manifest import check_free, has_index, is_bundle
    from odmt_fast.retrieval.thumbnails import Thumbnails

    output = Output(json_output)
    if output_dir is None and not is_bundle(source):
        raise ValueError(f"{source} is no bundle; name the folder of the new one with --output DIR")
    target = output_dir or source
    itself = target.resolve() == source.resolve()
    if not (itself or overwrite):
        check_free(target)
    texts = tuple(text_columns.split(",")) if text_columns else ()
    found = read_items(items, item_id_column, texts, image_column, options=TableOptions())
    new = catalogue_items(found, images)
    recommender = opened(
        source, checkpoint, data, store, allow_other_features=allow_other_features, device=device
    )
    if not itself and has_index(source):
        output.note(
            f"{source}: its approximate index is not copied; export the run with --faiss, and add "
            "the items there"
        )
    before = len(recommender.items)
    if skip_known:
        known = set(recommender.items.ids)
        new = new.take(np.array([row for row, i in enumerate(new.ids) if i not in known], int))
    recommender.add_items(new)
    if itself:
        recommender.append(target, before)
    else:
        # What a bundle holds of its users stays in it; a run's users are not exported unasked.
        users = is_bundle(source) and bool(recommender.known.names)
        pictures = Thumbnails.load(source, recommender.parts)
        recommender.save(target, users=users, overwrite=overwrite)
        if len(pictures):
            pictures.with_items(new).save(target, recommender.parts)
    output.result(
        {"bundle": target, "added": len(new), "items": len(recommender.items)},
        lambda console: console.print(
            f"{target}: {len(new):,} items added, {len(recommender.items):,} in all"
        ),
    )
