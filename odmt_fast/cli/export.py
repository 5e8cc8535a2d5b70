"""``odmt-fast export``: a run into a bundle, which leaves the training machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from odmt_fast.cli.options import (
    Checkpoint,
    Data,
    Device,
    Ensemble,
    Json,
    OtherFeatures,
    Run,
    Store,
)
from odmt_fast.cli.output import Output
from odmt_fast.cli.overwrite import Overwrite, agreed
from odmt_fast.cli.settings import of_run


def export(
    run: Run,
    bundle: Annotated[Path, typer.Argument(help="Folder that the bundle becomes.")],
    users: Annotated[
        bool,
        typer.Option(
            "--users",
            help="Put the histories of all users in, for recommend BUNDLE --user and --all.",
            show_default=False,
        ),
    ] = False,
    item_encoder: Annotated[
        bool,
        typer.Option(
            "--item-encoder/--no-item-encoder",
            help="Put what add-items needs in, where the model reads texts or pictures.",
        ),
    ] = True,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures",
            help="Put small pictures of the items in, for the page of serve.",
            show_default=False,
        ),
    ] = False,
    torch_export: Annotated[
        bool,
        typer.Option(
            "--torch-export",
            help="Add the user encoder as a graph that torch.export.load reads.",
            show_default=False,
        ),
    ] = False,
    onnx: Annotated[
        bool,
        typer.Option("--onnx", help="Add the user encoder as ONNX.", show_default=False),
    ] = False,
    faiss: Annotated[
        str | None,
        typer.Option(
            help="Add an approximate index, for --search faiss: auto, or what FAISS's "
            "index_factory takes, such as HNSW32.",
            metavar="auto|FACTORY",
            show_default="none",
        ),
    ] = None,
    faiss_search: Annotated[
        str | None,
        typer.Option(
            help="Parameters of its search, such as nprobe=16 or efSearch=64.",
            metavar="NAME=VALUE,...",
            show_default="FAISS's own; of auto those that recall 0.99 takes",
        ),
    ] = None,
    overwrite: Overwrite = False,
    ensemble: Ensemble = None,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    store: Store = None,
    allow_other_features: OtherFeatures = False,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Write what recommending needs to a folder: no dataset, no features, no training data.

    recommend takes the folder like a run; docs/serving.md shows it from Python.
    """
    from odmt_fast.retrieval.approximate import require_faiss
    from odmt_fast.retrieval.manifest import check_free, is_bundle
    from odmt_fast.retrieval.portable import exported, require_onnx, save_onnx, save_torch
    from odmt_fast.retrieval.thumbnails import Thumbnails
    from odmt_fast.workflow.workspace import Workspace, trained_model, weights_of

    output = Output(json_output)
    if onnx:  # now, not once the bundle is written
        require_onnx()
    if faiss is not None:
        require_faiss()
    elif faiss_search is not None:
        raise ValueError("--faiss-search is of an index; add --faiss auto, or leave it out")
    if is_bundle(bundle) and not overwrite:
        overwrite = agreed(f"{bundle} holds a bundle")
    if not overwrite:  # now, not once the catalogue is encoded
        check_free(bundle)
    given = {"training.device": device, "evaluation.ensemble": ensemble}
    workspace = Workspace.open(of_run(run, given, data, store))
    weights = weights_of(run, checkpoint)
    model = trained_model(workspace, weights, allow_other_features=allow_other_features)
    recommender = workspace.recommender(model)
    if faiss is not None:
        recommender = recommender.with_index(faiss, faiss_search)
    recommender.save_pretrained(
        bundle,
        origin=workspace.origin(weights),
        users=users,
        item_encoder=item_encoder,
        overwrite=overwrite,
    )
    if pictures:
        Thumbnails.of(recommender.items).save(bundle, recommender.parts)
    if torch_export or onnx:
        graph = exported(recommender.parts)
        if torch_export:
            save_torch(graph, recommender.parts, bundle)
        if onnx:
            save_onnx(graph, recommender.parts, bundle)
    size = sum(path.stat().st_size for path in bundle.iterdir())
    people = len(recommender.known.names) if users else 0
    index = recommender.parts.index
    output.result(
        {
            "bundle": bundle,
            "items": len(recommender.items),
            "users": people,
            "bytes": size,
            "faiss": None if index is None else index.to_json(),
        },
        lambda console: console.print(
            f"{bundle}: {len(recommender.items):,} items, histories of {people:,} users, "
            f"{size / 1e6:,.1f} MB",
            *([] if index is None else [str(index)]),
            sep="\n",
        ),
    )
