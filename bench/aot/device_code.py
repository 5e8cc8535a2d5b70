"""The CUDA sources of csrc as nvcc compiles them: registers, spills, shared memory."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.aot.compiler import Compiled
from bench.aot.registry import ARCHITECTURES
from odmt_fast.kernels.launch.device import KNOWN

CSRC = Path(__file__).parents[2] / "csrc"
NAME = "csrc"
"""What these sources are called among the operators."""

_TYPES = {"float": "float32", "__nv_bfloat16": "bfloat16", "__half": "float16"}
_THREADS = 256  # kThreads of the sources


def nvcc_missing() -> str | None:
    """Why the sources cannot be compiled here; None when they can."""
    return None if shutil.which("nvcc") else "nvcc is not on the PATH"


def compile_sources() -> list[Compiled]:
    """Every kernel of every CUDA source for every architecture."""
    rows = []
    for source in sorted(CSRC.glob("*.cu")):
        for architecture in ARCHITECTURES:
            with tempfile.TemporaryDirectory() as folder:
                command = ["nvcc", "-std=c++17", "-O3", f"-arch=sm_{architecture}", "-cubin"]
                command += ["-Xptxas=-v", str(source), "-o", f"{folder}/kernels.cubin"]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows += parsed(_demangled(done.stderr), source.name, architecture)
    return rows


def _demangled(text: str) -> str:
    command = ["c++filt", "--no-strip-underscore"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def parsed(said: str, source: str, architecture: int) -> list[Compiled]:
    """The kernels in what ptxas -v said, its names demangled; sorted."""
    rows = []
    for entry in said.split("Compiling entry function '")[1:]:
        kernel = re.search(r"(\w+)<(.*?)>", entry)
        registers = re.search(r"Used (\d+) registers", entry)
        shared = re.search(r"(\d+) bytes smem", entry)
        assert kernel and registers, entry
        kind, *rest = kernel[2].split(", ")
        words = [_TYPES[kind], *(f"K={k}" for k in rest[:1])]
        words += ["with edges" if edges == "true" else "without edges" for edges in rest[1:]]
        rows.append(
            Compiled(
                operator=NAME,
                case=f"{source}, {', '.join(words)}",
                kernel=kernel[1],
                architecture=architecture,
                warps=_THREADS // 32,
                registers=int(registers[1]),
                spill_bytes=sum(int(n) for n in re.findall(r"(\d+) bytes spill", entry)),
                shared_bytes=int(shared[1]) if shared else 0,
                shared_limit=KNOWN[architecture].shared_bytes,
                instructions=(),
            )
        )
    return sorted(rows, key=lambda row: (row.kernel, row.case))
