"""The command line: parse, make a configuration, call a room, show what it returned."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``odmt-fast``; returns the exit status.

    Args:
        arguments: the words after the program's name; None takes those of the process.
    """
    try:
        from odmt_fast.cli.app import run
    except ImportError as error:
        if error.name not in ("typer", "rich", "yaml"):
            raise
        print(
            f"error: the command line needs {error.name}; pip install 'odmt_fast[cli]'",
            file=sys.stderr,
        )
        return 1
    return run(sys.argv[1:] if arguments is None else list(arguments))
