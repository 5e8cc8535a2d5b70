"""``odmt-fast evaluate``: a trained run against the held-out targets."""

from __future__ import annotations

from typing import Annotated

import typer

from odmt_fast.cli.options import Checkpoint, Device, Json, Run
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import read_config


def evaluate(
    run: Run,
    part: Annotated[str, typer.Option(help="valid or test.")] = "test",
    checkpoint: Checkpoint = "best",
    k: Annotated[str | None, typer.Option(help="Cut-offs, such as 5,10,50.")] = None,
    repeat_targets: Annotated[
        str | None,
        typer.Option(help="A target the user already had: rank it, count a miss, or skip it."),
    ] = None,
    compat: Annotated[
        str | None, typer.Option(help="fixed, or official to rank as the official code.")
    ] = None,
    slices: Annotated[
        bool,
        typer.Option(
            "--slices", help="Also by popularity of the target and by inputs.", show_default=False
        ),
    ] = False,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Rank each user's held-out item among the whole catalogue: HR@K and NDCG@K."""
    from odmt_fast.cli.workspace import Workspace, trained_model, weights_of
    from odmt_fast.evaluation import by_input_length, by_popularity

    output = Output(json_output)
    config = read_config(run)
    cut_offs = tuple(int(value) for value in k.split(",")) if k else None
    given = {
        "evaluation.k": cut_offs,
        # The setting that chooses checkpoints; nothing is chosen here.
        "evaluation.metric": cut_offs and f"ndcg@{cut_offs[0]}",
        "evaluation.repeat_targets": repeat_targets,
        "evaluation.compat": compat,
        "training.device": device,
    }
    workspace = Workspace.open(
        config.updated({name: value for name, value in given.items() if value is not None})
    )
    model = trained_model(workspace, weights_of(run, checkpoint))
    result = workspace.evaluate(model, part)
    groups = {}
    if slices:
        groups = {**by_popularity(result, workspace.split.popularity), **by_input_length(result)}
    values = {"run": run, "part": part, **result.to_dict()}
    if slices:
        values["slices"] = {name: group.to_dict() for name, group in groups.items()}
    title = f"{part}: {result.n_users:,} users, {result.n_items:,} items"
    output.result(
        values,
        lambda console: console.print(
            table(title, *result.table()),
            *(
                table(f"{name}: {group.n_users:,} users", *group.table())
                for name, group in groups.items()
            ),
            sep="\n",
        ),
    )
