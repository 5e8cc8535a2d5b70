"""What a figure was measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from contextlib import suppress
from datetime import date
from functools import cache
from pathlib import Path

import torch

from odmt_fast import __version__

LIMITS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ODMT_TEST_ISA")


def limited_isa() -> str | None:
    """The instruction set that ``make bench-avx2`` holds the whole process to; our own code from
    now on, the libraries since they were loaded. None: no limit.

    Raises:
        RuntimeError: our code is not built for it, or this CPU does not have it.
    """
    isa = os.environ.get("ODMT_TEST_ISA")
    if isa is None:
        return None
    from odmt_fast import _C

    if not _C.use_isa(isa):
        raise RuntimeError(f"ODMT_TEST_ISA={isa} is not built, or this CPU does not have it")
    return isa


def processor() -> str:
    """Its name and instruction set, which decide times more than all else."""
    return f"{_processor_name()}, {torch.backends.cpu.get_cpu_capability()}"


def machine() -> dict[str, str | int]:
    """Processor, threads, versions and date, for the head of a results file."""
    limits = " ".join(f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ)
    return {
        **_gpu(),
        "date": date.today().isoformat(),
        "processor": _processor_name(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        **({"limits": limits} if limits else {}),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "odmt_fast": __version__,
    }


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@cache
def _gpu() -> dict[str, str]:
    """The GPU, its driver, CUDA, what rivals are installed, and the commit if git knows it."""
    if not torch.cuda.is_available():
        return {}
    facts = {"gpu": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    driver = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    commit = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    for name, command in (("driver", driver), ("commit", commit)):
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
            facts[name] = done.stdout.split()[0]
    for package in ("triton", "xformers", "liger-kernel", "cut-cross-entropy"):
        with suppress(importlib.metadata.PackageNotFoundError):
            facts[package] = importlib.metadata.version(package)
    return facts
