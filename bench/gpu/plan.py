"""What a run consists of, and the time each part has."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHOLE_SECONDS = 9 * 60


@dataclass(frozen=True)
class Section:
    """A part of the run, in a process of its own.

    Attributes:
        name: in the results.
        seconds: its share of the whole. Time that earlier sections did not need is added.
        command: what runs; it appends its rows to the file named by ODMT_FAST_ROWS.
        missing: why it cannot run here; None when it can.
    """

    name: str
    seconds: float
    command: tuple[str, ...]
    missing: str | None = None


def sections(device: str, site: Path, *, sanitize: bool) -> Iterator[Section]:
    """The sections in their order: what matters most comes early.

    Args:
        device: "cuda", or "cpu" to try the harness at tiny sizes, without a build.
        site: folder the build installs into.
        sanitize: build, and one pass of compute-sanitizer instead of the benches.
    """
    if device == "cuda":
        install = ["install", ".", "--no-build-isolation", "--no-deps", "--quiet", "--target"]
        yield Section("build", 80, (sys.executable, "-m", "pip", *install, str(site)))
    if sanitize:
        yield _sanitizer()
        return
    yield Section("tests", 130, (sys.executable, "-m", "bench.gpu.suite", *gpu_tests(ROOT)))
    benches = {"step": 120, "loss": 70, "attention": 75, "rows": 50}
    for name, seconds in benches.items():
        command = (sys.executable, "-m", "bench.gpu.section", name, "--device", device)
        yield Section(name, seconds, command)


def gpu_tests(root: Path) -> list[str]:
    """Test files with tests that need a GPU."""
    marked = re.compile(r"mark\.gpu\b")
    files = sorted((root / "tests").rglob("test_*.py"))
    return [str(f.relative_to(root)) for f in files if marked.search(f.read_text())]


def _sanitizer() -> Section:
    tool = shutil.which("compute-sanitizer")
    checks = ("--tool", "memcheck", "--error-exitcode", "9", "--target-processes", "all")
    return Section(
        "sanitize",
        WHOLE_SECONDS - 100,
        (
            *(tool or "compute-sanitizer", *checks),
            *(sys.executable, "-m", "bench.gpu.suite", "-k", "small", "tests/gpu"),
        ),
        missing=None if tool else "compute-sanitizer is not on the PATH",
    )
