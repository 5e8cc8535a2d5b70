"""``odmt-fast studies``: ready studies of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from odmt_fast.cli.options import Data, Device, Json, OtherFeatures, Run, Set, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import given_places, load_config, of_run, read_config
from odmt_fast.cli.shuffle import shuffle
from odmt_fast.cli.study import show
from odmt_fast.storage import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(help="Ready studies: ablation, where items lie, and what order is worth.")
app.command()(shuffle)


@app.command()
def ablation(
    start: Annotated[
        Path, typer.Argument(metavar="RUN|CONFIG.yaml", help="A run, or settings, to start from.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder.", show_default="runs/NAME-ablation"),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(help="Parts, such as tau,alpha.", show_default="all parts"),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of every row.")] = "1",
    jobs: Annotated[int, typer.Option(help="Runs at a time, each in a process.")] = 1,
    assignments: Set = None,
    data: Data = None,
    store: Store = None,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Train ODMT with one setting changed at a time, against the settings given.

    Parts: mask, id_init, alpha, tau, detach_teacher, layers. A study like those of
    odmt-fast study: it goes on where it was interrupted.
    """
    from odmt_fast.studies.ablation import PARTS
    from odmt_fast.studies.ablation import ablation as grid_of
    from odmt_fast.workflow.workspace import Workspace

    shown = Output(json_output)
    base = read_config(start) if start.is_dir() else load_config(start, None)
    places = given_places(data, store, device)
    base = load_config(None, None, assignments or (), places, base=base)
    workspace = Workspace.open(base).with_default_stores()
    dims = {name: source.dim for name, source in workspace.stores().items()}
    parts = only.split(",") if only else PARTS
    grid = grid_of(workspace.config, dims, parts, [int(seed) for seed in seeds.split(",")])
    show(grid, output or Path("runs") / f"{start.stem}-ablation", shown, jobs)


@app.command()
def features(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(help="Where it goes.", show_default="RUN/features")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="What kind an item is: the first group found in its text, split at , and |.",
        ),
    ] = None,
    projection: Annotated[str, typer.Option(help="tsne, umap or pca.")] = "tsne",
    items: Annotated[int, typer.Option(help="The most that are looked at.")] = 2_000,
    seed: Annotated[int, typer.Option(help="Of the sample and the pictures.")] = 1,
    data: Data = None,
    store: Store = None,
    allow_other_features: OtherFeatures = False,
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Draw the items before and after the model, and count how well kinds keep together.

    Of each space: the share of the 10 nearest items that are of the same kind, and
    uniformity, for rarely sold items and the others; linear CKA between spaces.
    """
    from odmt_fast.studies.spaces import item_spaces, labels_in, summary
    from odmt_fast.studies.spaces_plot import plot_labels, plot_sales, project
    from odmt_fast.workflow.workspace import Workspace, trained_model, weights_of

    shown = Output(json_output)
    workspace = Workspace.open(of_run(run, {"training.device": device}, data, store))
    texts = workspace.data.items.texts
    labels = labels_in(texts, label) if label else [frozenset[str]()] * len(texts)
    model = trained_model(
        workspace, weights_of(run, "best"), allow_other_features=allow_other_features
    )
    counts = workspace.split.train.counts(workspace.data.n_items)
    spaces = item_spaces(model, counts, labels, most=items, seed=seed)
    folder = out or run / "features"
    flat = project(spaces, projection, seed=seed)
    found = summary(spaces, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    files = [plot_sales(spaces, flat, folder / "sales.png")]
    if label:
        files.append(plot_labels(spaces, flat, folder / "labels.png"))
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / "features.json", lambda part: part.write_text(text, "utf-8"))
    shown.result(
        {"run": run, "figures": files, **found},
        lambda console: console.print(
            *_tables(found), *(f"wrote {file}" for file in files), sep="\n"
        ),
    )


def _tables(found: dict[str, Any]) -> Iterator[Any]:
    groups = ("all", "rare", "others")
    chance = found["chance"]
    told = "" if chance is None else f", agreement by chance {chance:.4f}"
    title = (
        f"{found['items']:,} items, rare: the {found['rare']['items']:,} with at most "
        f"{found['rare']['sales at most']:,} sales{told}"
    )
    header = ("", *(f"{what}, {group}" for what in ("agreement", "uniformity") for group in groups))
    rows = [
        (name, *(_cell(values[what].get(group)) for what in values for group in groups))
        for name, values in found["spaces"].items()
    ]
    yield table(title, header, rows)
    pairs = [(" / ".join(pair["of"]), f"{pair['value']:.4f}") for pair in found["cka"]]
    if pairs:
        yield table("Linear CKA", ("", "CKA"), pairs)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
