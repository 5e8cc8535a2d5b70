"""``odmt-fast studies``: ready studies of a run."""

from __future__ import annotations

import typer

from odmt_fast.cli.shuffle import shuffle

app = typer.Typer(help="Ready studies of a run.")
app.command()(shuffle)


@app.callback()
def _several() -> None:
    """Ready studies of a run."""
