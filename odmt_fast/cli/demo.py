"""``odmt-fast demo``: a generated shop, and every step from its files to recommendations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from odmt_fast.cli.extract import BUILT_IN
from odmt_fast.cli.options import Device, Json, Set
from odmt_fast.cli.output import Output, add_text_column, table
from odmt_fast.cli.progress import EpochLines, Steps
from odmt_fast.cli.settings import load_config
from odmt_fast.cli.text import one_line
from odmt_fast.config import Config

if TYPE_CHECKING:
    from odmt_fast.data.demo import DemoOptions
    from odmt_fast.models import SequentialModel
    from odmt_fast.workflow.workspace import Workspace

# What the demo trains with; --set and flags override it. At this width and with so few users the
# official dropout of 0.1 holds the branches on the plateau of popularity for hundreds of steps.
SETTINGS = {
    "model.width": 64,
    "model.max_seq_len": 20,
    "model.dropout": 0.0,
    # One layer reads the tokens once and learns nearly as much here, in a third of the time.
    "model.imt_layers": 1,
    "model.user_layers": 2,
    # A constant, light distillation: the branches stay different, which is what the ensemble needs.
    "model.alpha": 0.02,
    # At this width products are too small for bf16 to pay.
    "training.precision": "fp32",
    "training.batch_size": 64,
    "training.epochs": 11,
    "training.learning_rate": 1.5e-3,
    "training.patience": 5,
}
_METRICS = ("hr@10", "ndcg@10")
_SHOWN_USERS, _SHOWN_ITEMS = 3, 5


@dataclass(frozen=True)
class Example:
    """A user, what they bought, and what is recommended before their last purchase.

    Attributes:
        user: the name.
        history: titles of the purchases the model may know, oldest first.
        recommended: titles, best first.
        bought: title of the purchase held out.
    """

    user: str
    history: list[str]
    recommended: list[str]
    bought: str


def demo(
    output_dir: Annotated[
        Path, typer.Option("--output", "-o", help="Where shop, features, run and plots go.")
    ] = Path("demo"),
    users: Annotated[int, typer.Option(help="People of the shop.")] = 3000,
    items: Annotated[int, typer.Option(help="Things on sale.")] = 1000,
    assignments: Set = None,
    epochs: Annotated[int | None, typer.Option(help="training.epochs")] = None,
    device: Device = None,
    seed: Annotated[
        int | None, typer.Option(help="training.seed; another one is another shop too.")
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Train anew instead of going on.", show_default=False),
    ] = False,
    json_output: Json = False,
) -> None:
    """Make a small shop, train on it, and show what the model recommends.

    Needs no download. Run it again to go on where it stopped.
    """
    from odmt_fast.data.demo import DemoOptions
    from odmt_fast.studies.plots import plot_run
    from odmt_fast.workflow.trained import train_and_test
    from odmt_fast.workflow.workspace import weights_of

    output = Output(json_output)
    shop, dataset, run = (output_dir / name for name in ("shop", "dataset", "run"))
    config = load_config(
        None,
        None,
        assignments or (),
        {
            "data.path": dataset,
            "training.output": run,
            "training.epochs": epochs,
            "training.device": device,
            "training.seed": seed,
        },
        base=Config().updated(SETTINGS),
    )
    steps = Steps(6, output.note)
    stores = _prepare(
        steps, shop, dataset, DemoOptions(users=users, items=items, seed=config.training.seed)
    )
    config = config.updated({"features.stores": stores})
    with steps.step("training", f"training up to {config.training.epochs} epochs into {run}"):
        lines = EpochLines(config.evaluation.metric)
        trained = train_and_test(config, lines, resume=not fresh)
    if trained.test is None or trained.best is None:
        raise ValueError(f"the training was interrupted; run odmt-fast demo -o {output_dir} again")
    with steps.step("examples and plots", f"recommending, and drawing {output_dir / 'plots'}"):
        examples = _examples(trained.workspace, trained.best)
        figures = plot_run(run, output_dir / "plots", _METRICS[0])
    result = trained.test
    order = ("popularity", *(name for name in result.names if name != "popularity"))
    ceiling = json.loads((shop / "demo.json").read_text("utf-8"))["ceiling_hr@10"]
    values: dict[str, Any] = {
        "output": output_dir,
        "weights": weights_of(run, "best"),
        "metrics": {name: {m: result.value(m, name) for m in _METRICS} for name in order},
        "ceiling_hr@10": ceiling,
        "examples": [asdict(example) for example in examples],
        "figures": [str(path) for path in figures],
        "seconds": steps.seconds,
    }

    def show(console: Console) -> None:
        rows = [(name, *(f"{result.value(m, name):.4f}" for m in _METRICS)) for name in order]
        header = ("ranking by", *(m.upper() for m in _METRICS))
        console.print(table(f"The next purchase among {result.n_items:,} items", header, rows))
        console.print(f"Somebody who knew every taste would reach HR@10 {ceiling:.4f}.")
        for example in examples:
            console.print(_example_table(example))
        for path in figures:
            console.print(f"wrote {path}")
        console.print(steps.summary())

    output.result(values, show)


def _prepare(steps: Steps, shop: Path, dataset: Path, options: DemoOptions) -> dict[str, Path]:
    """Shop, dataset and features, each made unless it is there; the stores by modality."""
    from odmt_fast.data import read
    from odmt_fast.data.demo import write_demo
    from odmt_fast.features.extract import extract
    from odmt_fast.workflow.workspace import MODALITIES, default_store

    what = f"making a shop of {options.items:,} items and {options.users:,} people in {shop}"
    with steps.step("shop", what) as tell:
        write_demo(shop, options, tell)
    with steps.step("dataset", f"reading it, every picture decoded, into {dataset}"):
        data = read(shop, "official")
        data.save(dataset)
    stores: dict[str, Path] = {}
    for modality in MODALITIES:
        stores[modality] = default_store(dataset, modality)
        encoder = BUILT_IN[modality]
        with steps.step(f"{modality} features", f"{modality} features by {encoder}") as tell:
            extract(data.items, modality, encoder, stores[modality], progress=tell)
    return stores


def _examples(workspace: Workspace, model: SequentialModel) -> list[Example]:
    """The first users of the dataset, asked for their last purchase."""
    data = workspace.data
    past = [workspace.split.test_history[row].tolist() for row in range(_SHOWN_USERS)]
    names = [[data.items.ids[i - 1] for i in history] for history in past]
    lists = workspace.recommender(model).recommend(names, _SHOWN_ITEMS)

    def titles(ids: Sequence[int]) -> list[str]:
        return [data.items.texts[i - 1] or data.items.ids[i - 1] for i in ids]

    return [
        Example(
            user=data.users[row],
            history=titles(past[row]),
            recommended=[item.title or item.id for item in items],
            bought=titles(data.sequences[row][-1:].tolist())[0],
        )
        for row, items in enumerate(lists)
    ]


def _example_table(example: Example) -> Table:
    shown = example.history[-_SHOWN_ITEMS:]
    shown += [""] * (_SHOWN_ITEMS - len(shown))
    made = Table(title=example.user, title_justify="left", title_style="bold")
    add_text_column(made, "bought, the latest last")
    add_text_column(made, "recommended, the best first")
    hit = example.bought in example.recommended
    if hit:
        made.add_column("")
    for past, item in zip(shown, example.recommended, strict=False):
        found = ["<- bought next" if item == example.bought else ""] if hit else []
        made.add_row(one_line(past), one_line(item), *found)
    if not hit:
        made.caption = f"bought next: {one_line(example.bought)}"
    made.caption_justify = "left"
    return made
