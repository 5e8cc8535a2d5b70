"""``odmt-fast recommend``: lists for users or for a history, and vectors for other systems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from odmt_fast.cli.options import Checkpoint, Data, Device, Json, OtherFeatures, Run, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import of_run

if TYPE_CHECKING:
    from odmt_fast.retrieval import Recommender

_HISTORY = "history"
"""What a list for --history and --item is called among those of users."""


def recommend(
    run: Run,
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
    k: Annotated[int, typer.Option("-k", help="Items of a list.")] = 10,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the vectors of all items and users for an inner-product index."),
    ] = None,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    store: Store = None,
    allow_other_features: OtherFeatures = False,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Recommend new items to users of the dataset or to anybody with a history."""
    from odmt_fast.cli.workspace import Workspace, trained_model, weights_of
    from odmt_fast.data import Sequences
    from odmt_fast.retrieval import export_vectors

    past = [*(history.split(",") if history else ()), *(item or ())]
    if not user and not past and export is None:
        raise ValueError(
            "nothing is asked; use --user NAME, --history ITEMS, --item ITEM or --export DIR"
        )
    if past and _HISTORY in (user or ()):
        raise ValueError(f"ask for --user {_HISTORY} and for a history one after the other")
    output = Output(json_output)
    workspace = Workspace.open(of_run(run, {"training.device": device}, data, store))
    model = trained_model(
        workspace, weights_of(run, checkpoint), allow_other_features=allow_other_features
    )
    recommender = workspace.recommender(model)

    asked: dict[str, list[int]] = {}
    rows = {name: row for row, name in enumerate(workspace.data.users)} if user else {}
    for name in user or ():
        if name not in rows:
            raise ValueError(f"--user {name} is not among the {len(rows)} users of the dataset")
        asked[name] = workspace.data.sequences[rows[name]].tolist()
    if past:
        asked[_HISTORY] = _dense_ids(recommender, past, history)
    lists = recommender.recommend(Sequences.from_lists(asked.values()), k) if asked else []

    exported = []
    if export is not None:
        known = workspace.data
        vectors = recommender.item_vectors[1:]
        exported.append(export_vectors(export, "items", vectors, known.items.ids))
        users = recommender.user_vectors(known.sequences)
        exported.append(export_vectors(export, "users", users, known.users))

    output.result(
        {
            "recommendations": {
                name: [item.to_dict() for item in items]
                for name, items in zip(asked, lists, strict=True)
            },
            "exported": [str(path) for path in exported],
        },
        lambda console: console.print(
            *(
                table(
                    name,
                    ("item", "title", "score"),
                    [(item.id, item.title or "", f"{item.score:.3f}") for item in items],
                    texts=("title",),
                )
                for name, items in zip(asked, lists, strict=True)
            ),
            *(f"wrote {path}" for path in exported),
            sep="\n",
        ),
    )


def _dense_ids(recommender: Recommender, names: list[str], history: str | None) -> list[int]:
    try:
        return recommender.dense_ids(names)
    except ValueError as error:
        if history and "," in history:
            raise ValueError(f"{error}; a name with a comma is given by --item") from None
        raise
