"""``odmt-fast study``: models, settings and seeds on one dataset, trained and compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from odmt_fast.cli.options import Data, Device, Json, Set, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.progress import EpochLines
from odmt_fast.cli.settings import given_places, load_grid

if TYPE_CHECKING:
    from odmt_fast.studies.grid import Grid


def study(
    grid_file: Annotated[
        Path,
        typer.Argument(metavar="GRID.yaml", help="base, vary or rows, seeds, against."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the study.", show_default="runs/GRID's name"
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Runs at a time, each in a process.")] = 1,
    assignments: Set = None,
    data: Data = None,
    store: Store = None,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Train every row of a grid with every seed; tables, comparisons and a figure.

    Each run has a folder of its own, as train makes it. Run it again to go on with
    an interrupted study; what is finished is kept. docs/studies.md shows a grid.
    """
    grid = load_grid(grid_file, assignments or (), given_places(data, store, device))
    show(grid, output or Path("runs") / grid_file.stem, Output(json_output), jobs)


def show(grid: Grid, folder: Path, shown: Output, jobs: int) -> None:
    """Runs what is missing of a grid in `folder`, and shows its tables."""
    from odmt_fast.studies.compare import HEADER
    from odmt_fast.studies.study import run_study

    result = run_study(grid, folder, EpochLines, shown.note, jobs=jobs)
    tables = [table(f"{folder}: test, seeds {', '.join(map(str, grid.seeds))}", *result.table())]
    if result.comparisons:
        cells = (comparison.cells() for comparison in result.comparisons)
        tables.append(table(f"Against {grid.against}, paired bootstrap over users", HEADER, cells))
    shown.result(
        {"study": folder, **result.to_dict()},
        lambda console: console.print(
            *tables, f"wrote study.json, study.md and study.png in {folder}", sep="\n"
        ),
    )
