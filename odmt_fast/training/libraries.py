"""Keeps the measured choice of matmul libraries, so that a seed gives the same bits every time."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from odmt_fast.kernels.linear import libraries
from odmt_fast.kernels.linear.libraries import Libraries
from odmt_fast.storage import write_atomically

# What a person may have told the libraries, for another choice than that of the processor.
_LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_CPU_ISA_HINTS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
)
_CPUINFO = Path("/proc/cpuinfo")
# Virtual processors share a name and differ in these.
_INSTRUCTIONS = ("avx", "amx", "fma", "asimd", "sve", "sme", "bf16", "i8mm")


def cache_file() -> Path:
    """Where the answers of this machine are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "odmt_fast" / "matmul.json"


def machine_key() -> str:
    """What an answer holds for: processor, instructions, limits, version of torch.

    Not the number of threads: a seed's bits must not hang on it by two measurements.
    """
    limits = [f"{name}={os.environ[name]}" for name in _LIMITS if name in os.environ]
    parts = *_processor(), torch.backends.cpu.get_cpu_capability(), f"torch {torch.__version__}"
    return ", ".join([*parts, *limits])


def _processor() -> tuple[str, str]:
    """Name of the processor, and the vector instructions it has."""
    name, flags = platform.processor() or platform.machine(), ""
    if _CPUINFO.is_file():
        lines = (line.partition(":") for line in _CPUINFO.read_text("utf-8", "replace").split("\n"))
        values = {title.strip().lower(): value.strip() for title, _, value in lines}
        name = values.get("model name", name)
        flags = values.get("flags", values.get("features", ""))
    return name, " ".join(sorted(flag for flag in flags.split() if flag.startswith(_INSTRUCTIONS)))


def choose(
    recorded: Mapping[str, Any] | None = None,
    *,
    again: bool = False,
    say: Callable[[str], None] = warnings.warn,
) -> Libraries:
    """Makes this process multiply as the run did, or as this machine did before, or measures.

    Args:
        recorded: what a run's checkpoint says, which goes before the machine's answer, except that
            products of bf16 that are slow here are computed in fp32.
        again: measure though there is an answer.
        say: is told what the user should know.
    """
    machine = _of_machine(again=again, say=say)
    chosen = machine
    if recorded:
        # A record of another version says nothing.
        with contextlib.suppress(TypeError):
            chosen = Libraries.from_json(recorded)
        if chosen.bf16_is_fast and not machine.bf16_is_fast:
            chosen = replace(chosen, bf16_is_fast=False)
            say(
                "the run multiplied bf16 by instructions that are slow or absent here; it goes on "
                "in fp32 products rounded to bf16, which give other last bits"
            )
        if chosen.fp32_by_onednn != machine.fp32_by_onednn:
            library = "oneDNN" if chosen.fp32_by_onednn else "torch's BLAS"
            say(f"fp32 products go to {library}, as in the run so far; here the other is preferred")
    libraries.use(chosen)
    return chosen


def _of_machine(*, again: bool, say: Callable[[str], None]) -> Libraries:
    """This machine's answer, measured by one process at a time and kept."""
    file, key = cache_file(), machine_key()
    if not again and (kept := _kept(file, key)) is not None:
        return kept
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if not again and (kept := _kept(file, key)) is not None:
                return kept
            measured = libraries.measure()
            text = json.dumps({**_read(file), key: measured.to_json()}, indent=1) + "\n"
            write_atomically(file, lambda part: part.write_text(text, "utf-8"))
            return measured
    except OSError as error:
        # Two measurements may differ; what cannot be kept must not depend on one.
        say(
            f"{file} cannot be written ({error.strerror or error}), so fp32 products go to torch's "
            "BLAS instead of the faster library; set XDG_CACHE_HOME to a folder that can"
        )
        return replace(libraries.measure(), fp32_by_onednn=False)


def _kept(file: Path, key: str) -> Libraries | None:
    values = _read(file).get(key)
    with contextlib.suppress(TypeError):
        return Libraries.from_json(values) if values else None
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
