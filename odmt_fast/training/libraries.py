"""Keeps the measured choice of matmul libraries, so that a seed gives the same bits every time."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from odmt_fast.kernels.linear import libraries
from odmt_fast.kernels.linear.libraries import Libraries
from odmt_fast.storage import StorageError, write_atomically

# What a person may have limited the libraries by, for another choice than that of the processor.
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS")


def cache_file() -> Path:
    """Where the answers of this machine are kept."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "odmt_fast" / "matmul.json"


def machine_key() -> str:
    """What an answer holds for: processor, limits, threads and the version of torch."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text("utf-8", "replace").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), cpu)
    limits = [f"{name}={os.environ[name]}" for name in _LIMITS if name in os.environ]
    parts = cpu, torch.backends.cpu.get_cpu_capability(), f"torch {torch.__version__}"
    return ", ".join([*parts, f"{torch.get_num_threads()} threads", *limits])


def choose(recorded: Mapping[str, Any] | None = None, *, again: bool = False) -> Libraries:
    """Makes this process multiply as the run did, or as this machine did before, or measures.

    Args:
        recorded: what a run's checkpoint says, which goes before the machine's answer.
        again: measure though there is an answer.
    """
    file, key = cache_file(), machine_key()
    known = _read(file)
    chosen = None
    for values in (recorded, None if again else known.get(key)):
        try:
            chosen = chosen or (Libraries.from_json(values) if values else None)
        except TypeError:  # of another version
            continue
    if chosen is None:
        chosen = libraries.measure()
        text = json.dumps({**known, key: chosen.to_json()}, indent=1) + "\n"
        # Where nothing can be kept, a run's own record still decides for the run.
        with contextlib.suppress(StorageError):
            write_atomically(file, lambda part: part.write_text(text, "utf-8"))
    libraries.use(chosen)
    return chosen


def _read(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
