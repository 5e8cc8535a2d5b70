"""What a run consists of, and the time each part has."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHOLE_SECONDS = 9 * 60
BENCHES = {"step": 115, "attention": 95, "loss": 65, "rows": 45}
"""Seconds of each bench, in their order: what matters most comes early."""


@dataclass(frozen=True)
class Section:
    """A part of the run, in a process of its own.

    Attributes:
        name: in the results.
        seconds: its share of the whole. Time that earlier sections did not need is added.
        command: what runs; it appends its rows to the file named by ODMT_FAST_ROWS.
        missing: why it cannot run here; None when it can.
        variables: of its environment, beside those of the run.
    """

    name: str
    seconds: float
    command: tuple[str, ...]
    missing: str | None = None
    variables: tuple[tuple[str, str], ...] = ()


def sections(device: str, site: Path, *, sanitize: bool) -> Iterator[Section]:
    """The sections in their order.

    Args:
        device: "cuda", or "cpu" to try the harness at tiny sizes, without a build.
        site: folder the build installs into.
        sanitize: build, and one pass of compute-sanitizer instead of the benches.
    """
    if device == "cuda":
        install = ["install", ".", "--no-build-isolation", "--no-deps", "--quiet", "--target"]
        yield Section("build", 70, (sys.executable, "-m", "pip", *install, str(site)))
    if sanitize:
        yield _sanitizer()
        return
    yield Section("tests", 130, (sys.executable, "-m", "bench.gpu.suite", *gpu_tests(ROOT)))
    for name, seconds in BENCHES.items():
        command = (sys.executable, "-m", "bench.gpu.section", name, "--device", device)
        yield Section(name, seconds, command)


def gpu_tests(root: Path) -> list[str]:
    """Test files with tests that need a GPU."""
    marked = re.compile(r"^pytestmark = .*\bmark\.gpu\b|^\s*@pytest\.mark\.gpu\b", re.MULTILINE)
    files = sorted((root / "tests").rglob("test_*.py"))
    return [str(f.relative_to(root)) for f in files if marked.search(f.read_text())]


def _sanitizer() -> Section:
    nvcc = shutil.which("nvcc")
    beside = os.path.dirname(nvcc) if nvcc else ""
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=beside)
    checks = ("--tool", "memcheck", "--error-exitcode", "9", "--target-processes", "all")
    return Section(
        "sanitize",
        WHOLE_SECONDS - 90,
        (
            *(tool or "compute-sanitizer", *checks),
            *(sys.executable, "-m", "bench.gpu.suite", "-k", "small", "tests/gpu"),
        ),
        missing=None if tool else "compute-sanitizer is neither on the PATH nor beside nvcc",
        # torch's pool would hide what is written past a tensor but inside the pool.
        variables=(("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),),
    )
