"""The committed table of compiled kernels, as Markdown."""

from __future__ import annotations

from importlib.metadata import version
from itertools import groupby

from bench.aot.compiler import Compiled

HEADER = """# What the compilers made of the GPU kernels

Written by `python -m bench.aot`; no GPU takes part, nothing here was timed. Each row is one launch
at the tile that the reviewed table picks for the architecture. Spills are bytes stored and loaded
by a thread; shared memory is KiB of the program, out of what the architecture allows. Matrix
instructions: mma = warp, wgmma = warp group (sm_90), tcgen05 = tensor memory (sm_100); sm_75
multiplies without them. Compiler: Triton {triton}, torch {torch}; at the end nvcc's, of csrc.
"""
COLUMNS = "| case | kernel | sm | warps | registers | spills | shared | of | matrix |"


def markdown(rows: list[Compiled]) -> str:
    """One section an operator, one line a kernel and architecture."""
    parts = [HEADER.format(triton=version("triton"), torch=version("torch").split("+")[0]).rstrip()]
    for operator, group in groupby(rows, key=lambda row: row.operator):
        parts += [f"\n## {operator}\n", COLUMNS, "|---|---|---|---|---|---|---|---|---|"]
        for row in group:
            cells = (
                row.case,
                f"`{row.kernel}`",
                row.architecture,
                row.warps,
                row.registers,
                row.spill_bytes,
                f"{row.shared_bytes / 1024:.0f}",
                f"{row.shared_limit / 1024:.0f}",
                " ".join(row.instructions) or "none",
            )
            parts.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(parts) + "\n"
