"""``odmt-fast extract``: texts, pictures or vectors into a token store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from odmt_fast.cli.options import Json, MaxPixels
from odmt_fast.cli.output import Output
from odmt_fast.cli.overwrite import Overwrite, agreed

if TYPE_CHECKING:
    from odmt_fast.features.store import TokenStore

BUILT_IN = {"text": "hashed-words", "image": "pca-patches"}


def extract(
    dataset: Annotated[Path, typer.Argument(help="Prepared dataset.")],
    modality: Annotated[str, typer.Option(help="text or image; any name, with --vectors.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="A folder or hub name of a transformers model, your own as MODULE:FACTORY or "
            "FILE.py:FACTORY (docs/features.md), or a built-in one: hashed-words (text), "
            "pca-patches (image), which need no weights.",
            show_default="the built-in one",
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(help="Vectors of the items, .parquet or .npy; nothing is encoded."),
    ] = None,
    vector_ids: Annotated[
        Path | None, typer.Option(help="Of a .npy: text file of its items, one a line.")
    ] = None,
    vector_columns: Annotated[
        str, typer.Option(help="Of a .parquet: its columns.", metavar="ITEM,VECTOR")
    ] = "item,vector",
    missing_vectors: Annotated[
        str, typer.Option(help="Items without a vector: error, or allow (one zero token).")
    ] = "error",
    out: Annotated[
        Path | None,
        typer.Option(help="Token store.", show_default="DATASET/features/MODALITY"),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(help="Hidden state to take; officially 12.", show_default="the last"),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Text tokens kept of an item.")] = 30,
    pool: Annotated[
        str | None,
        typer.Option(
            help="Keep one token of an item: mean (of all its tokens) or summary.",
            show_default="all tokens",
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Token width of a built-in encoder.", show_default="its own")
    ] = None,
    official_images: Annotated[
        bool,
        typer.Option(
            "--official-images",
            help="Normalise pictures by 0.5, as officially.",
            show_default=False,
        ),
    ] = False,
    dtype: Annotated[str, typer.Option(help="float16, bfloat16 or float32.")] = "float16",
    batch_size: Annotated[int, typer.Option(help="Texts or pictures encoded at once.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Work that a killed extraction may cost, beside one batch.")
    ] = 0.5,
    max_pixels: MaxPixels = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Never ask the hub.", show_default=False)
    ] = False,
    overwrite: Overwrite = False,
    json_output: Json = False,
) -> None:
    """Encode texts or pictures, or take vectors; interrupted, run it again to go on.

    On several GPUs: torchrun --nproc-per-node N -m odmt_fast extract ...
    """
    import torch

    from odmt_fast.cli.given_vectors import check_name, given_vectors
    from odmt_fast.data import Interactions
    from odmt_fast.data.bounds import BOUNDS
    from odmt_fast.features.encoder import EncoderOptions
    from odmt_fast.features.extract import extract as extract_tokens
    from odmt_fast.features.index import OtherStoreError
    from odmt_fast.processes import joined
    from odmt_fast.workflow.workspace import default_store

    if modality not in BUILT_IN and vectors is None:
        raise ValueError(
            f"--modality {modality} does not exist; use text or image, or bring its --vectors FILE"
        )
    output = Output(json_output)
    items = Interactions.load(dataset).items
    given = None
    if vectors is not None:
        if encoder is not None:
            raise ValueError(f"--encoder {encoder} has nothing to encode in --vectors; give one")
        check_name(modality, items, out)
        given = given_vectors(items, vectors, vector_ids, vector_columns, missing_vectors)
    elif modality not in items.modalities:
        raise ValueError(
            f"--modality {modality}: none of the {len(items):,} items of {dataset} has one; "
            "train without it, or prepare the dataset again from a source that has them"
        )
    items = items.with_limits(BOUNDS.updated(max_pixels=max_pixels).pictures)
    options = EncoderOptions(
        layer=layer,
        max_tokens=max_tokens,
        pooling=pool,  # type: ignore[arg-type]  # EncoderOptions checks it
        width=width,
        normalisation="official" if official_images else "encoder",
        batch_size=batch_size,
        device=device,
        offline=offline,
    )

    def make(*, replace: bool) -> TokenStore:
        return extract_tokens(
            items,
            modality,
            given.encoder if given else encoder or BUILT_IN[modality],
            out or default_store(dataset, modality),
            inputs=given.inputs if given else None,
            options=options,
            dtype=dtype,
            checkpoint_minutes=checkpoint_minutes,
            overwrite=replace,
            progress=output.counter(modality),
        )

    with joined(torch.device("cpu")):  # what they tell each other is none of the GPUs' business
        try:
            store = make(replace=overwrite)
        except OtherStoreError as other:
            if not agreed(other.what):
                raise
            store = make(replace=True)
    tokens = int(store.offsets[-1])
    unknown = given.unknown if given else 0
    without = f", {len(store.missing):,} of them without" if store.missing else ""
    idle = f"; {unknown:,} vectors are of no item" if unknown else ""
    output.result(
        {
            "store": store.path,
            "items": store.n_items,
            "missing": len(store.missing),
            **({"unknown_vectors": unknown} if given else {}),
            "tokens": tokens,
            "width": store.dim,
            "bytes": store.nbytes,
        },
        lambda console: console.print(
            f"{store.path}: {tokens:,} {modality} tokens of width {store.dim} for "
            f"{store.n_items:,} items{without}, {store.nbytes / 1e6:,.1f} MB{idle}"
        ),
    )
