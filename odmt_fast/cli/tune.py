"""``odmt-fast tune``: settings chosen by validation, the same budget for every model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from odmt_fast.cli.options import Data, Device, Json, Preset, Set, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.progress import EpochLines
from odmt_fast.cli.settings import given_places, load_search, sections
from odmt_fast.storage import write_atomically

if TYPE_CHECKING:
    from odmt_fast.studies.tune import TuneResult


def tune(
    search_file: Annotated[
        Path | None,
        typer.Argument(metavar="SEARCH.yaml", help="base, rows, search.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the search.", show_default="runs/SEARCH's name"
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Settings tried of every model.")] = 30,
    epochs: Annotated[int, typer.Option(help="The most of a trial.")] = 30,
    pruner: Annotated[
        str, typer.Option(help="End hopeless trials early: median, asha or none.")
    ] = "median",
    preset: Preset = None,
    assignments: Set = None,
    data: Data = None,
    store: Store = None,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Search settings by validation (Optuna), every model with the same budget.

    Without a file: the model of --preset and --set, and the usual settings. The best
    ones go into the folder as a file for train. Run it again to go on with an
    interrupted search, or with more --trials. docs/studies.md shows a file.
    """
    try:
        import optuna
    except ImportError as error:
        raise ValueError(f"tune needs Optuna ({error}); pip install odmt_fast[tune]") from error
    from odmt_fast.studies.tune import STORAGE
    from odmt_fast.studies.tune import tune as search

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    shown = Output(json_output)
    rows, space = load_search(
        search_file, preset, assignments or (), given_places(data, store, device)
    )
    folder = output or Path("runs") / (search_file.stem if search_file else "tune")
    found = search(
        rows,
        space,
        folder,
        trials=trials,
        epochs=epochs,
        pruner=pruner,
        reporter=EpochLines,
        tell=shown.note,
    )
    files = {name: _write(result, folder / f"{name}.yaml") for name, result in found.items()}
    metric = next(iter(found.values())).config.evaluation.metric
    shown.result(
        {
            "search": folder,
            "storage": folder / STORAGE,
            "models": {
                name: {
                    "best": asdict(result.best),
                    "config": files[name],
                    "trials": [asdict(trial) for trial in result.trials],
                }
                for name, result in found.items()
            },
        },
        lambda console: console.print(
            table(f"{folder}: {metric} (validation)", *_table(found)),
            *(f"odmt-fast train {file}   # the best of {name}" for name, file in files.items()),
            sep="\n",
        ),
    )


def _write(result: TuneResult, file: Path) -> Path:
    """The best settings, those that are not the defaults, as `train` reads them."""
    output = file.with_name(f"{file.stem}-best")
    text = yaml.safe_dump(
        sections(result.config.updated({"training.output": output})), sort_keys=False
    )
    write_atomically(file, lambda part: part.write_text(text, "utf-8"))
    return file


def _table(found: Mapping[str, TuneResult]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows = []
    for name, result in found.items():
        states = [trial.state for trial in result.trials]
        settings = ", ".join(f"{key}={value}" for key, value in result.best.settings.items())
        counts = (str(states.count(state)) for state in ("complete", "pruned", "diverged"))
        rows.append((name, f"{result.best.score:.4f}", *counts, result.best.name, settings))
    return ("", "best", "complete", "pruned", "diverged", "trial", "settings"), rows
