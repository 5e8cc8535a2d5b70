"""``odmt-fast baselines``: what a trained model has to beat."""

from __future__ import annotations

from typing import Annotated

import typer

from odmt_fast.cli.options import ConfigFile, Data, Device, Json, Preset, Set
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import load_config


def baselines(
    config_file: ConfigFile = None,
    preset: Preset = None,
    assignments: Set = None,
    data: Data = None,
    device: Device = None,
    names: Annotated[
        str, typer.Option(help="Which, separated by commas.")
    ] = "popularity,co-occurrence,markov,sasrec",
    json_output: Json = False,
) -> None:
    """Rank the test targets by popularity, co-occurrence, a Markov chain and a plain SASRec.

    Give the settings of the run to compare with: SASRec takes its width, layers,
    batches and epochs from them.
    """
    from odmt_fast.cli.workspace import Workspace
    from odmt_fast.studies import run_baselines

    output = Output(json_output)
    workspace = Workspace.open(
        load_config(
            config_file,
            preset,
            assignments or (),
            {"data.path": data, "training.device": device},
        )
    )
    results = run_baselines(
        workspace.split,
        workspace.data.n_items,
        workspace.config,
        names.split(","),
        output.note,
    )
    header = next(iter(results.values())).table()[0]
    rows = [row for result in results.values() for row in result.table()[1]]
    output.result(
        {name: result.to_dict() for name, result in results.items()},
        lambda console: console.print(table("Test", header, rows)),
    )
