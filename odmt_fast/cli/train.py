"""``odmt-fast train``: a configuration into a trained run."""

from __future__ import annotations

from typing import Annotated

import typer

from odmt_fast.cli.options import ConfigFile, Data, Device, Json, OutputDir, Preset, Set, Store
from odmt_fast.cli.output import Output, table
from odmt_fast.cli.progress import EpochLines
from odmt_fast.cli.settings import given_places, load_config, pairs


def train(
    config_file: ConfigFile = None,
    preset: Preset = None,
    assignments: Set = None,
    data: Data = None,
    store: Store = None,
    output_dir: OutputDir = None,
    epochs: Annotated[int | None, typer.Option(help="training.epochs")] = None,
    batch_size: Annotated[int | None, typer.Option(help="training.batch_size")] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", "--lr", help="training.learning_rate")
    ] = None,
    width: Annotated[int | None, typer.Option(help="model.width")] = None,
    max_seq_len: Annotated[int | None, typer.Option(help="model.max_seq_len")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, tf32, bf16 or fp16.")] = None,
    device: Device = None,
    seed: Annotated[int | None, typer.Option(help="training.seed")] = None,
    compat: Annotated[
        str | None, typer.Option(help="fixed, or official to rank as the official code.")
    ] = None,
    no_capture: Annotated[
        bool,
        typer.Option(
            "--no-capture",
            help="On a GPU, launch every kernel of every step (training.capture=off).",
            show_default=False,
        ),
    ] = False,
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Go on with the run though this setting was another: training.learning_rate, "
            "weight_decay, clip_norm or precision (repeat).",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            "--fresh", help="Replace a run instead of going on with it.", show_default=False
        ),
    ] = False,
    json_output: Json = False,
) -> None:
    """Train, keep the best epoch, and rank the test targets with it.

    Flags override --set, which overrides the file, the preset and the defaults.
    Run it again with the same settings to go on with an interrupted run. On several
    GPUs: torchrun --nproc-per-node N -m odmt_fast train ..., --batch-size for each.
    """
    from odmt_fast.workflow.trained import train_and_test

    output = Output(json_output)
    config = load_config(
        config_file,
        preset,
        [*(assignments or ()), *(override or ())],
        {
            **given_places(data, store, device),
            "training.output": output_dir,
            "training.epochs": epochs,
            "training.batch_size": batch_size,
            "training.learning_rate": learning_rate,
            "training.precision": precision,
            "training.seed": seed,
            "training.capture": "off" if no_capture else None,
            "model.width": width,
            "model.max_seq_len": max_seq_len,
            "evaluation.compat": compat,
        },
    )
    trained = train_and_test(
        config,
        EpochLines(config.evaluation.metric),
        resume=not fresh,
        overrides=tuple(pairs(override or (), "--override")),
    )
    run, result = trained.training, trained.test
    output.result(
        {
            "run": run.output,
            "status": run.status,
            "epochs": run.epochs,
            "best_epoch": run.best_epoch,
            "best_score": run.best_score,
            "test": result and result.to_dict(),
        },
        lambda console: console.print(
            f"{run.output}: {run.status} after {run.epochs} epochs, best epoch {run.best_epoch} "
            f"with {config.evaluation.metric} {run.best_score:.4f} (validation)",
            *([table("Test", *result.table())] if result else []),
            sep="\n",
        ),
    )
