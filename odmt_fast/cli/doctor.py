"""``odmt-fast doctor``: what is installed, what runs here, and why not something faster."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from odmt_fast import __version__
from odmt_fast.cli.options import Json
from odmt_fast.cli.output import Output, table

if TYPE_CHECKING:
    from odmt_fast.kernels.linear.libraries import Libraries

_PACKAGES = ("torch", "triton", "numpy", "transformers", "pyarrow", "safetensors", "tensorboard")


def doctor(
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Time the matmul libraries again.", show_default=False),
    ] = False,
    json_output: Json = False,
) -> None:
    """Print versions and devices, run one small step, and say which backend computed what."""
    from odmt_fast.cli.probe import probe
    from odmt_fast.training import libraries
    from odmt_fast.training.precision import training_device

    output = Output(json_output)
    where = training_device(device)
    multiply = libraries.choose(again=measure)
    environment = {**_environment(str(where)), **_products(multiply)}
    choices, failure = probe(where)
    values: dict[str, Any] = {
        **environment,
        "operators": [asdict(choice) for choice in choices],
        "works": failure is None,
        "failure": failure,
    }

    def show(console: Console) -> None:
        for name, value in environment.items():
            console.print(f"{name:>14}  {value}")
        rows = [(c.operator, c.device, c.backend, c.why) for c in choices]
        shown = table("Operators, in a training and a ranking step", _HEADER, rows)
        for column in shown.columns:
            column.justify = "left"
        console.print(shown)
        console.print(failure or "One step of training and ranking works.")

    output.result(values, show)
    if failure is not None:
        raise typer.Exit(1)


_HEADER = ("operator", "device", "backend", "why")


def _environment(device: str) -> dict[str, str]:
    import torch

    from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE, extension_missing, forced

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "odmt_fast": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        **{name: _version_of(name) for name in _PACKAGES},
        "cuda": torch.version.cuda or "torch is built without it",
        "gpus": ", ".join(gpus) or "none",
        "cpu threads": str(torch.get_num_threads()),
        "extension": extension_missing("cpu") or "odmt_fast._C is built",
        "forced": forced() or f"no ({ENVIRONMENT_VARIABLE} is not set)",
        "device": device,
    }


def _products(choice: Libraries) -> dict[str, str]:
    """Which library multiplies on the CPU, and the rates that decided."""
    by = "oneDNN" if choice.fp32_by_onednn else "torch's BLAS"
    rates = f"GFLOP/s: BLAS {choice.matmul_fp32}, oneDNN {choice.onednn_fp32 or 'not available'}"
    fast = "in bf16" if choice.bf16_is_fast else "in fp32, rounded, since bf16 is slower"
    return {
        "fp32 products": f"{by} ({rates})",
        "bf16 products": f"{fast} ({choice.matmul_bf16} GFLOP/s)",
    }


def _version_of(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
