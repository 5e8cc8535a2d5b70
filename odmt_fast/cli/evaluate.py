"""``odmt-fast evaluate``: a trained run against the held-out targets."""

from __future__ import annotations

from collections.abc import Iterator
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
    Run,
    Store,
    Targets,
)
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import of_run

if TYPE_CHECKING:
    from odmt_fast.evaluation import EvaluationReport, EvaluationResult
    from odmt_fast.evaluation.report import Table


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
    targets: Targets = None,
    ensemble: Ensemble = None,
    slices: Annotated[
        bool,
        typer.Option(
            "--slices",
            help="Also by popularity of the target and by inputs, and cold items apart.",
            show_default=False,
        ),
    ] = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Also slices, what the lists show, and which branch found what: tables, "
            "report-PART.json and a figure in RUN.",
            show_default=False,
        ),
    ] = False,
    data: Data = None,
    store: Store = None,
    allow_other_features: OtherFeatures = False,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Rank each user's held-out item among the whole catalogue: HR@K and NDCG@K."""
    from odmt_fast.evaluation.report import slice_tables
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
        "evaluation.targets": targets,
        "evaluation.ensemble": ensemble,
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
    values = {"run": run, "part": part, **result.to_dict()}
    tables: list[Table] = []
    written: list[Path] = []
    ranked = workspace.what_is_ranked
    if report:
        told = workspace.report(model, result, part)
        values |= told.to_dict()
        tables += told.tables()
        written += _written(told, run, part)
    elif slices:
        groups = workspace.slices(result)
        values["slices"] = {name: group.to_dict() for name, group in groups.items()}
        tables += slice_tables(groups, ranked)
    title = f"{part}: {result.n_users:,} {ranked}, {result.n_items:,} items"
    output.result(
        {**values, **({"files": [str(path) for path in written]} if written else {})},
        lambda console: console.print(
            table(title, *result.table()),
            *_about_repeats(result),
            *(table(*shown) for shown in tables),
            *(f"wrote {path}" for path in written),
            sep="\n",
        ),
    )


def _written(report: EvaluationReport, run: Path, part: str) -> list[Path]:
    """The files of a report in the folder of its run."""
    from odmt_fast.studies.report_plot import plot_report

    figure = plot_report(report, f"hr@{report.k}", run / "plots" / f"report-{part}.png")
    return [report.save(run, part), figure]


def _about_repeats(result: EvaluationResult) -> Iterator[str]:
    """A line about targets that their user had before, where there are any."""
    repeated = int(result.repeated.sum())
    if repeated:
        what = {"rank": "ranked like any other", "miss": "counted as misses"}
        yield (
            f"{repeated:,} of {result.n_users:,} targets repeat an item of the user's history: "
            f"{what[result.repeat_targets]} (--repeat-targets rank|miss|skip)"
        )
