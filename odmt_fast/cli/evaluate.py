"""``odmt-fast evaluate``: a trained run against the held-out targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from odmt_fast.cli.options import Checkpoint, Data, Device, Json, OtherFeatures, Run, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import of_run

if TYPE_CHECKING:
    from odmt_fast.evaluation import EvaluationResult


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
    data: Data = None,
    store: Store = None,
    allow_other_features: OtherFeatures = False,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Rank each user's held-out item among the whole catalogue: HR@K and NDCG@K."""
    from odmt_fast.evaluation import by_input_length, by_popularity
    from odmt_fast.storage import StorageError
    from odmt_fast.workflow.workspace import Workspace, trained_model, weights_of

    output = Output(json_output)
    cut_offs = tuple(int(value) for value in k.split(",")) if k else None
    given = {
        "evaluation.k": cut_offs,
        # The setting that chooses checkpoints; nothing is chosen here.
        "evaluation.metric": cut_offs and f"ndcg@{cut_offs[0]}",
        "evaluation.repeat_targets": repeat_targets,
        "evaluation.compat": compat,
        "training.device": device,
    }
    workspace = Workspace.open(of_run(run, given, data, store))
    model = trained_model(
        workspace, weights_of(run, checkpoint), allow_other_features=allow_other_features
    )
    result = workspace.evaluate(model, part)
    if checkpoint == "best" and not allow_other_features:
        try:
            workspace.keep_ranks(result, "valid" if part == "valid" else "test")
        except StorageError as error:
            output.note(f"the ranks are not kept for odmt-fast compare: {error}")
    groups = {}
    if slices:
        groups = {**by_popularity(result, workspace.split.popularity), **by_input_length(result)}
    values = {"run": run, "part": part, **result.to_dict()}
    if slices:
        values["slices"] = {name: group.to_dict() for name, group in groups.items()}
    # A ready-made split may hold several targets of a user.
    ranked = "users" if workspace.split.kind == "leave-one-out" else "targets"
    title = f"{part}: {result.n_users:,} {ranked}, {result.n_items:,} items"
    output.result(
        values,
        lambda console: console.print(
            table(title, *result.table()),
            *_about_repeats(result),
            *(
                table(f"{name}: {group.n_users:,} {ranked}", *group.table())
                for name, group in groups.items()
            ),
            sep="\n",
        ),
    )


def _about_repeats(result: EvaluationResult) -> Iterator[str]:
    """A line about targets that their user had before, where there are any."""
    repeated = int(result.repeated.sum())
    if repeated:
        what = {"rank": "ranked like any other", "miss": "counted as misses"}
        yield (
            f"{repeated:,} of {result.n_users:,} targets repeat an item of the user's history: "
            f"{what[result.repeat_targets]} (--repeat-targets rank|miss|skip)"
        )
