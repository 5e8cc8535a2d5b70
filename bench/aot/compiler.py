"""Ahead-of-time compilation of launches: registers, spills, shared memory, matrix instructions.

The launch functions of the operators run unchanged on meta tensors; this module puts a driver
without a device under Triton and turns each launch into a compilation. It must run in a process
that never launches kernels, with a cache directory of its own (`python -m bench.aot`).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import JITFunction, driver

from odmt_fast.kernels.launch.device import KNOWN, assume

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
INSTRUCTIONS = {"wgmma": "wgmma.mma", "tcgen05": "tcgen05.mma", "mma": "mma.sync"}


@dataclass(frozen=True)
class Compiled:
    """What became of one launch on one architecture. Sizes in bytes."""

    operator: str
    case: str
    kernel: str
    architecture: int
    warps: int
    registers: int
    spill_bytes: int
    shared_bytes: int
    shared_limit: int
    instructions: tuple[str, ...]


class _NoDevice:
    """All that compiling a launch asks of a driver."""

    def __init__(self, architecture: int) -> None:
        self.architecture = architecture

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self) -> int:
        return self.architecture  # keys the in-process cache

    def get_current_stream(self, device: int = 0) -> int:
        return 0


@contextmanager
def _captured_launches(kernels: list[tuple[str, Any]]) -> Iterator[None]:
    run = JITFunction.run

    def compile_only(self: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        if all(kernel is not known for _, known in kernels):  # launched in a loop
            kernels.append((self.__name__, kernel))

    JITFunction.run = compile_only
    try:
        yield
    finally:
        JITFunction.run = run


def _assembled(ptx: str) -> tuple[int, int]:
    """(registers, spilled bytes) as the assembler reports them."""
    target = re.search(r"\.target (sm_\w+)", ptx)
    version = re.search(r"\.version (\S+)", ptx)
    assert target and version
    blackwell = float(version[1]) > 8.8 or target[1].startswith(("sm_10", "sm_12"))
    tool = TOOLS / ("ptxas-blackwell" if blackwell else "ptxas")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [str(tool), "-v", f"-arch={target[1]}", str(source), "-o", f"{folder}/kernel"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", said)
    assert registers, said
    return int(registers[1]), sum(int(x) for x in re.findall(r"(\d+) bytes spill", said))


def compile_launch(
    operator: str, case: str, architecture: int, launch: Callable[[], object]
) -> list[Compiled]:
    """Every kernel that `launch` launches, compiled for the architecture."""
    device = KNOWN[architecture]
    driver.set_active(_NoDevice(architecture))
    kernels: list[tuple[str, Any]] = []
    with assume(device), _captured_launches(kernels):
        launch()
    rows = []
    for name, kernel in kernels:
        ptx = kernel.asm["ptx"]
        registers, spills = _assembled(ptx)
        rows.append(
            Compiled(
                operator=operator,
                case=case,
                kernel=name,
                architecture=architecture,
                warps=kernel.metadata.num_warps,
                registers=registers,
                spill_bytes=spills,
                shared_bytes=kernel.metadata.shared,
                shared_limit=device.shared_bytes,
                instructions=tuple(n for n, text in INSTRUCTIONS.items() if text in ptx),
            )
        )
    return rows
