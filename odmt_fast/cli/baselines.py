"""``odmt-fast baselines``: what a trained model has to beat."""

from __future__ import annotations

from typing import Annotated

import typer

from odmt_fast.cli.options import ConfigFile, Data, Device, Json, OutputDir, Preset, Set, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import given_places, load_config


def baselines(
    config_file: ConfigFile = None,
    preset: Preset = None,
    assignments: Set = None,
    data: Data = None,
    store: Store = None,
    output_dir: OutputDir = None,
    device: Device = None,
    models: Annotated[
        str | None,
        typer.Option(help="Which, separated by commas; all that the features allow otherwise."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train again what was trained.")] = False,
    json_output: Json = False,
) -> None:
    """Rank the test targets by what a model has to beat.

    Popularity, co-occurrence and a Markov chain count. The others are trained with
    the settings of the run to compare with, which you give: sasrec, gru4rec,
    nextitnet, hstu, ligr on IDs; sasrec-text, sasrec-image on one modality; ef, lf,
    fdsa, unisrec on all of them.
    """
    from odmt_fast.studies import BASELINES, FEATURED, possible, run_baselines
    from odmt_fast.workflow.workspace import Workspace

    output = Output(json_output)
    config = load_config(
        config_file,
        preset,
        assignments or (),
        {**given_places(data, store, device), "training.output": output_dir},
    )
    workspace = Workspace.open(config).with_default_stores()
    wanted = models.split(",") if models else None
    sources = workspace.stores() if wanted is None or FEATURED & set(wanted) else {}
    if wanted is None:
        wanted = list(possible(sources))
        if absent := [name for name in BASELINES if name not in wanted]:
            output.note(f"left out, for want of features: {', '.join(absent)}")
    results = run_baselines(
        workspace.ranked,
        workspace.data.n_items,
        workspace.config,
        wanted,
        output.note,
        sources=sources,
        resume=not fresh,
    )
    header = next(iter(results.values())).table()[0]
    rows = [row for result in results.values() for row in result.table()[1]]
    output.result(
        {name: result.to_dict() for name, result in results.items()},
        lambda console: console.print(table("Test", header, rows)),
    )
