"""``odmt-fast recommend``: lists for users or for a history, and vectors for other systems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from odmt_fast.cli.options import (
    Checkpoint,
    Data,
    Device,
    Ensemble,
    Json,
    OtherFeatures,
    Search,
    Store,
)
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import of_run

if TYPE_CHECKING:
    from odmt_fast.retrieval import Recommendation, Recommender

_HISTORY = "history"
"""What a list for --history and --item is called among those of users."""


def recommend(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|BUNDLE", help="A training run, or what export made.")
    ],
    user: Annotated[
        list[str] | None, typer.Option(help="User of the dataset, by name (repeat).")
    ] = None,
    history: Annotated[
        str | None,
        typer.Option(help="Items by name, oldest first, such as p00017,p00230.", metavar="ITEMS"),
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(
            help="Item of the history by name, after those of --history (repeat); for names with "
            "a comma.",
            metavar="ITEM",
        ),
    ] = None,
    similar: Annotated[
        list[str] | None,
        typer.Option(help="Item whose nearest others are wanted (repeat).", metavar="ITEM"),
    ] = None,
    everybody: Annotated[
        bool,
        typer.Option("--all", help="A list for every user, into --output.", show_default=False),
    ] = False,
    output_file: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Parquet file for --all: user, rank, item, title, score."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Items of a list.")] = 10,
    allow: Annotated[
        Path | None,
        typer.Option(help="File with the items that may be shown, a name a line.", metavar="FILE"),
    ] = None,
    deny: Annotated[
        Path | None,
        typer.Option(help="File with items that may not be shown.", metavar="FILE"),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the vectors of all items and users for an inner-product index."),
    ] = None,
    search: Search = "exact",
    ensemble: Ensemble = None,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    store: Store = None,
    allow_other_features: OtherFeatures = False,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Recommend new items to users of the dataset or to anybody with a history."""
    from odmt_fast.retrieval.export import write_lists

    past = [*(history.split(",") if history else ()), *(item or ())]
    if not (user or past or similar or everybody) and export is None:
        raise ValueError(
            "nothing is asked; use --user NAME, --history ITEMS, --item ITEM, --similar ITEM, "
            "--all or --export DIR"
        )
    if past and _HISTORY in (user or ()):
        raise ValueError(f"ask for --user {_HISTORY} and for a history one after the other")
    if everybody != (output_file is not None):
        raise ValueError("--all and --output FILE.parquet go together; give both")
    output = Output(json_output)
    allowed = None if allow is None else _names(allow, "--allow")
    denied = () if deny is None else _names(deny, "--deny")
    recommender = opened(
        source,
        checkpoint,
        data,
        store,
        allow_other_features=allow_other_features,
        device=device,
        ensemble=ensemble,
        search=search,
    )

    for option, listed in (("--allow", allowed), ("--deny", denied)):
        absent = len(set(listed or ()).difference(recommender.items.ids))
        if absent:
            output.note(f"{option}: {absent:,} items are not in the catalogue and change nothing")

    asked: dict[str, list[str]] = {name: recommender.history(name) for name in user or ()}
    if past:
        _check_names(recommender, past, history)
        asked[_HISTORY] = past
    lists = recommender.recommend(asked.values(), k, allow=allowed, deny=denied)
    near = recommender.similar(similar or (), k, allow=allowed, deny=denied)

    written = []
    if output_file is not None:
        write_lists(output_file, recommender.recommend_all(k, allow=allowed, deny=denied))
        written.append(output_file)
    if export is not None:
        written += _export(recommender, export)

    shown = dict(zip(asked, lists, strict=True))
    alike = dict(zip(similar or (), near, strict=True))
    output.result(
        {
            "recommendations": _plain(shown),
            "similar": _plain(alike),
            "exported": [str(path) for path in written],
        },
        lambda console: console.print(
            *(
                table(
                    name,
                    ("item", "title", "score"),
                    [(item.id, item.title or "", f"{item.score:.3f}") for item in items],
                    texts=("title",),
                )
                for name, items in (*shown.items(), *alike.items())
            ),
            *(f"wrote {path}" for path in written),
            sep="\n",
        ),
    )


def opened(
    source: Path,
    checkpoint: str,
    data: Path | None,
    store: list[str] | None,
    *,
    allow_other_features: bool,
    device: str | None,
    ensemble: str | None = None,
    search: str = "exact",
) -> Recommender:
    """The recommender of a run or a bundle.

    Raises:
        ValueError: `source` is neither, or options of a run are given for a bundle.
    """
    from odmt_fast.retrieval import Recommender, is_bundle
    from odmt_fast.training.precision import training_device
    from odmt_fast.workflow.workspace import Workspace, trained_model, weights_of

    if not is_bundle(source):
        if search != "exact":
            raise ValueError(
                f"--search {search} is of a bundle, and {source} is a run; make one with "
                f"odmt-fast export {source} BUNDLE --faiss auto"
            )
        given = {"training.device": device, "evaluation.ensemble": ensemble}
        workspace = Workspace.open(of_run(source, given, data, store))
        weights = weights_of(source, checkpoint)
        model = trained_model(workspace, weights, allow_other_features=allow_other_features)
        return workspace.recommender(model)
    of_runs = {
        "--checkpoint": checkpoint != "best",
        "--data": data is not None,
        "--store": bool(store),
        "--allow-other-features": allow_other_features,
        "--ensemble": ensemble is not None,
    }
    if named := [name for name, used in of_runs.items() if used]:
        raise ValueError(f"{named[0]} is of a run, and {source} is a bundle; leave it out")
    return Recommender.load(source, training_device(device or "auto"), search=search)


def _names(file: Path, option: str) -> list[str]:
    """Items of a file, one a line, blank lines left out."""
    if not file.is_file():
        raise ValueError(f"{option} {file} does not exist; give a file with an item a line")
    return [line for line in file.read_text("utf-8-sig").splitlines() if line.strip()]


def _check_names(recommender: Recommender, names: list[str], history: str | None) -> None:
    try:
        recommender.dense_ids(names)
    except ValueError as error:
        if history and "," in history:
            raise ValueError(f"{error}; a name with a comma is given by --item") from None
        raise


def _export(recommender: Recommender, folder: Path) -> list[Path]:
    from odmt_fast.retrieval import export_vectors

    vectors = recommender.item_vectors[1:]
    written = [export_vectors(folder, "items", vectors, recommender.items.ids)]
    if known := recommender.known.names:
        users = recommender.user_vectors(recommender.known.sequences)
        written.append(export_vectors(folder, "users", users, known))
    return written


def _plain(lists: dict[str, list[Recommendation]]) -> dict[str, list[dict[str, object]]]:
    return {name: [item.to_dict() for item in items] for name, items in lists.items()}
