"""The commands, and the one place where errors become lines."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from odmt_fast import __version__
from odmt_fast.cli.add_items import add_items
from odmt_fast.cli.baselines import baselines
from odmt_fast.cli.compare import compare
from odmt_fast.cli.demo import demo
from odmt_fast.cli.doctor import doctor
from odmt_fast.cli.errors import about_usage, one_line
from odmt_fast.cli.evaluate import evaluate
from odmt_fast.cli.export import export
from odmt_fast.cli.extract import extract
from odmt_fast.cli.output import print_json
from odmt_fast.cli.plan import plan
from odmt_fast.cli.plot import plot
from odmt_fast.cli.prepare import prepare
from odmt_fast.cli.profile import profile
from odmt_fast.cli.recommend import recommend
from odmt_fast.cli.serve import serve
from odmt_fast.cli.settings import listing
from odmt_fast.cli.studies import app as studies
from odmt_fast.cli.study import study
from odmt_fast.cli.train import train
from odmt_fast.cli.tune import tune
from odmt_fast.processes import launched

_BY_SEVERAL_PROCESSES = ("train", "extract")
_WRONG_USAGE, _INTERRUPTED, _TERMINATED = 2, 130, 143
# Typer's own errors about words of the command line; it gives no name to what they have in common.
_USAGE_ERROR = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="odmt-fast",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        print(f"odmt-fast {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors (may stand anywhere).")
    ] = False,
) -> None:
    """Multi-modal sequential recommendation by online distillation, fast and exact.

    From files to recommendations: prepare, extract (text, then image), train, evaluate, recommend.
    To another machine: export; with new items: add-items; over HTTP: serve.
    Nothing at hand? demo makes a small shop and goes through all of it.
    """
    processes, command = launched().count, context.invoked_subcommand
    if processes > 1 and command not in _BY_SEVERAL_PROCESSES:
        raise ValueError(
            f"{command} is the work of one process, not of {processes}; start it without torchrun, "
            f"which is for {' and '.join(_BY_SEVERAL_PROCESSES)}"
        )


_COMMANDS = (
    *(demo, prepare, extract, train, evaluate, recommend, export, add_items, serve),
    *(compare, study, tune, plot, baselines, plan, profile, doctor),
)
for _command in _COMMANDS:
    app.command(epilog=listing() if _command in (train, baselines, plan, profile) else None)(
        _command
    )

app.add_typer(studies, name="studies")


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the command, so that what must be left in order is, and exits with 143."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(_TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(arguments: list[str]) -> int:
    """Runs one command; 0 = done, 1 = refused, 2 = wrong usage, 130 or 143 = interrupted."""
    debug = "--debug" in arguments
    arguments = [word for word in arguments if word != "--debug"]
    try:
        with _ending_on_sigterm():
            # Errors come here instead of into boxes of Typer's, which cut and frame them.
            status = app(arguments or ["--help"], prog_name="odmt-fast", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except Exception as error:
        usage = isinstance(error, _USAGE_ERROR)
        if debug and not usage:
            raise
        message = about_usage(error) if usage else one_line(error)
        if not launched().first:
            message = f"process {launched().rank}: {message}"
        print(f"error: {message}", file=sys.stderr)
        if "--json" in arguments and launched().first:
            print_json({"error": message})
        return _WRONG_USAGE if usage else 1
