"""``odmt-fast plot``: the logs of a run as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from odmt_fast.cli.options import Json, Run
from odmt_fast.cli.output import Output


def plot(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="Where the figures go.", show_default="RUN/plots")
    ] = None,
    metric: Annotated[str, typer.Option(help="Metric drawn over the epochs.")] = "hr@10",
    json_output: Json = False,
) -> None:
    """Draw the loss of each branch over the steps, and a metric over the epochs."""
    from odmt_fast.studies.plots import plot_run

    paths = plot_run(run, out, metric)
    Output(json_output).result(
        {"figures": [str(path) for path in paths]},
        lambda console: console.print("\n".join(f"wrote {path}" for path in paths)),
    )
