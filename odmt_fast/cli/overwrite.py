"""Asks before anything is replaced."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace another one that lies there, once the new one is finished.",
        show_default=False,
    ),
]


def agreed(what: str) -> bool:
    """Whether somebody at a terminal lets `what` be replaced; without one nobody does."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    return typer.confirm(f"{what}; replace it?", err=True)
