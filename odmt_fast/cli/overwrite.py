"""Asks before anything is replaced."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace what lies there, once the new one is finished.",
        show_default=False,
    ),
]


def may_replace(what: str, overwrite: bool) -> None:
    """Returns where `what` may be replaced: it was asked for, or somebody says so now.

    Raises:
        ValueError: nobody says so, or nobody can be asked.
    """
    if overwrite:
        return
    asked = sys.stdin.isatty() and sys.stderr.isatty()
    if asked and typer.confirm(f"{what}; replace it?", err=True):
        return
    raise ValueError(f"{what}; pass --overwrite to replace it, or name another folder")
