"""Freed memory is kept and released, and no memory is promised that the machine does not have.

The allocator's switches hold for a whole process, so every case runs in one of its own.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from odmt_fast.cli.errors import one_line
from odmt_fast.training import keep_freed_memory, memory, release_freed_memory

needs_glibc = pytest.mark.skipif(
    memory.glibc() is None or not sys.platform.startswith("linux"), reason="needs glibc on Linux"
)


def run(code: str) -> list[str]:
    """The words that a fresh process prints."""
    prelude = """
import os, resource
import torch
from odmt_fast.training.memory import keep_freed_memory, release_freed_memory

MIB = 2**20

def tensor(mebibytes, value=1):
    return torch.full((mebibytes * MIB,), value, dtype=torch.uint8)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
"""
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_glibc
def test_pages_are_not_faulted_in_again() -> None:
    anew, kept = run(
        """
def step():
    blocks = [tensor(size) for size in (8, 40, 64, 16)]

def faults_of_steps():
    for _ in range(4):
        step()
    before = faults()
    for _ in range(4):
        step()
    return faults() - before

print(faults_of_steps())
assert keep_freed_memory() and keep_freed_memory()
print(faults_of_steps())
"""
    )
    assert int(kept) < 0.05 * int(anew)


@needs_glibc
def test_freed_memory_can_be_released() -> None:
    kept, released, alive = run(
        """
keep_freed_memory()
stays = tensor(2, 3)
start = resident()
blocks = [tensor(64) for _ in range(4)]
del blocks
print((resident() - start) // MIB)
release_freed_memory()
print((resident() - start) // MIB)
print(bool((stays == 3).all()))
"""
    )
    assert int(kept) >= 255 and int(released) <= 2 and alive == "True"


@needs_glibc
def test_what_the_machine_does_not_have_is_refused() -> None:
    with open("/proc/sys/vm/overcommit_memory") as file:
        if file.read().strip() == "1":
            pytest.skip("this system grants every request (vm.overcommit_memory=1)")
    message = run(
        """
keep_freed_memory()
block = tensor(128)
del block
total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
with open("/proc/meminfo") as file:
    swap = next(int(line.split()[1]) for line in file if line.startswith("SwapTotal")) * 1024
try:
    torch.empty(total + swap + 2**30, dtype=torch.uint8)
except RuntimeError as error:
    print(error)
"""
    )
    line = one_line(RuntimeError(" ".join(message)))
    assert line.startswith("out of memory for a tensor of ")
    assert "lower --set training.batch_size" in line


def test_nothing_is_written_into_the_environment() -> None:
    assert run("before = dict(os.environ)\nkeep_freed_memory()\nprint(os.environ == before)") == [
        "True"
    ]


def test_another_c_library_keeps_its_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    memory.glibc.cache_clear()
    try:
        assert keep_freed_memory() is False
        release_freed_memory()
    finally:
        memory.glibc.cache_clear()


@needs_glibc
def test_a_switch_that_glibc_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses:
        @staticmethod
        def mallopt(parameter: int, value: int) -> int:
            return 0

    monkeypatch.setattr(memory, "glibc", Refuses)
    assert keep_freed_memory() is False
