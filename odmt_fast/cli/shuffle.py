"""``odmt-fast studies shuffle``: how much of a run's ranking is the order of the histories."""

from __future__ import annotations

from typing import Annotated

import typer

from odmt_fast.cli.options import Checkpoint, Data, Device, Json, OtherFeatures, Run, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import of_run


def shuffle(
    run: Run,
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    draws: Annotated[int, typer.Option(help="Orders that are drawn for everybody.")] = 3,
    seed: Annotated[int, typer.Option(help="Decides the orders.")] = 1,
    checkpoint: Checkpoint = "best",
    data: Data = None,
    store: Store = None,
    allow_other_features: OtherFeatures = False,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Rank with every history shuffled: how much of HR and NDCG is order?

    Inputs alone are shuffled; targets, and what is left out of the ranking, stay.
    Writes shuffle-PART.json in RUN.
    """
    from odmt_fast.studies.shuffle import shuffle_study
    from odmt_fast.workflow.workspace import Workspace, trained_model, weights_of

    output = Output(json_output)
    workspace = Workspace.open(of_run(run, {"training.device": device}, data, store))
    model = trained_model(
        workspace, weights_of(run, checkpoint), allow_other_features=allow_other_features
    )
    found = shuffle_study(workspace, model, part, seed=seed, draws=draws)
    path = found.save(run)
    k = max(workspace.config.evaluation.k)
    title = f"{part}: histories as they are, and in {draws} random orders (seed {seed})"
    output.result(
        {"run": run, **found.to_dict(), "file": path},
        lambda console: console.print(
            table(title, *found.table((f"hr@{k}", f"ndcg@{k}"))), f"wrote {path}", sep="\n"
        ),
    )
