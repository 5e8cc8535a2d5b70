"""``odmt-fast profile``: where the time of a training step goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from odmt_fast.cli.options import ConfigFile, Data, Device, Json, Preset, Set, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.settings import given_places, load_config


def profile(
    config_file: ConfigFile = None,
    preset: Preset = None,
    assignments: Set = None,
    data: Data = None,
    store: Store = None,
    device: Device = None,
    steps: Annotated[int, typer.Option(help="Steps that are traced.")] = 10,
    warmup: Annotated[int, typer.Option(help="Steps before them.")] = 3,
    trace: Annotated[
        Path, typer.Option(help="Chrome trace that is written (ui.perfetto.dev shows it).")
    ] = Path("trace.json"),
    json_output: Json = False,
) -> None:
    """Take a few steps of a run under the torch profiler and say what each stage costs.

    Nothing is trained further: the steps begin with fresh weights, which are dropped.
    """
    from odmt_fast.studies.profiling import profile as profile_steps
    from odmt_fast.training.libraries import choose
    from odmt_fast.training.precision import training_device
    from odmt_fast.workflow.workspace import Workspace

    output = Output(json_output)
    places = given_places(data, store, device)
    config = load_config(config_file, preset, assignments or (), places)
    workspace = Workspace.open(config).with_default_stores()
    choose(say=output.note)
    found = profile_steps(
        workspace.model(workspace.stores()).to(training_device(config.training.device)),
        workspace.split,
        workspace.config,
        trace,
        steps=steps,
        warmup=warmup,
    )
    times = found.times
    values: dict[str, Any] = {
        "trace": trace,
        "precision": found.precision,
        "seconds": times.seconds,
        "stages": {
            name: {**vars(stage), "floor": found.floor.get(name)}
            for name, stage in times.stages.items()
        },
    }
    header = ["stage", "forward ms", "backward ms", "ms", "share", "floor share", "MB made"]
    header += ["launches", "gaps ms"] if times.on_gpu else []
    rows = []
    for name, stage in times.stages.items():
        floor = found.floor.get(name)
        row = [
            name,
            _ms(stage.forward),
            _ms(stage.backward),
            _ms(stage.seconds),
            _percent(stage.seconds, times.seconds),
            "" if floor is None else _percent(floor, stage.seconds),
            f"{stage.allocated / 1e6:,.1f}",
        ]
        rows.append([*row, f"{stage.launches:,.0f}", _ms(stage.gaps)] if times.on_gpu else row)
    named = sum(stage.seconds for stage in times.stages.values())
    floor = sum(found.floor.values())
    rest = ["rest", "", "", _ms(times.seconds - named)]
    rows.append([*rest, _percent(times.seconds - named, times.seconds)])
    share = _percent(floor, times.seconds) if floor else ""
    rows.append(["step", "", "", _ms(times.seconds), "100 %", share])
    title = f"A step of {config.training.batch_size} users in {found.precision}, mean of {steps}"
    output.result(
        values,
        lambda console: console.print(
            table(title, header, [[*row, *[""] * (len(header) - len(row))] for row in rows]),
            f"{trace}: the trace; chrome://tracing and ui.perfetto.dev show it",
            sep="\n",
        ),
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.2f}"


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.0%}".replace("%", " %") if whole > 0 else ""
