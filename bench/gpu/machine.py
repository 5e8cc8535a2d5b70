"""What a GPU figure was measured on, found without importing torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "transformers",
    "pydantic",
    "xformers",
    "liger-kernel",
    "cut-cross-entropy",
)

NEEDED = (
    "torch",
    "triton",
    "numpy",
    "pydantic",
    "safetensors",
    "pybind11",
    "setuptools",
    "pytest",
)
"""Modules without which some section fails."""


def absent() -> list[str]:
    """Which of `NEEDED` this interpreter does not find; none of them is imported."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def machine(root: Path) -> dict[str, str]:
    """GPU, driver, versions, date, and the commit of the checkout at `root` if git knows it."""
    facts = {"gpu": "none", "date": date.today().isoformat()}
    smi = _output(
        "nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"
    )
    if smi:
        name, driver, memory = (field.strip() for field in smi.splitlines()[0].split(","))
        facts |= {"gpu": name, "driver": driver, "memory": memory}
    nvcc = re.search(r"release ([\d.]+)", _output("nvcc", "--version"))
    if nvcc:
        facts["nvcc"] = nvcc[1]
    facts["python"] = platform.python_version()
    for package in PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    commit = _output("git", "-C", str(root), "rev-parse", "--short=12", "HEAD")
    if commit:
        dirty = _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
        facts["commit"] = commit + ("+changes" if dirty else "")
    return facts


def slug(name: str) -> str:
    """A file name: ``NVIDIA H100 80GB HBM3`` -> ``nvidia_h100_80gb_hbm3``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _output(*command: str) -> str:
    """What a command prints; empty where it is absent, fails or takes long."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
