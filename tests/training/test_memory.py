"""The heap of large CPU tensors: keeps pages, has no holes, never gives memory out twice.

It holds for a whole process, so every case runs in one of its own.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.training import release_freed_memory

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or extension_missing("cpu") is not None,
    reason="needs the compiled extension on Linux",
)


def run(code: str) -> list[int]:
    """The integers that a fresh process prints."""
    prelude = """
import gc, os, random, resource, threading
import torch
from odmt_fast import _C
from odmt_fast.training import keep_freed_memory, release_freed_memory

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
    return [int(word) for word in done.stdout.split()]


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
    assert kept < 0.05 * anew


def test_holes_join_whatever_small_blocks_live_on() -> None:
    (grown,) = run(
        """
keep_freed_memory()
pins = []
for size in (32, 48, 24, 64, 40, 96, 128):
    blocks = []
    for _ in range(256 // size):
        blocks.append(tensor(size))
        pins.append(torch.ones(50_000))  # 200 KB, not the heap's
    del blocks
print((resident() - sum(pin.nbytes for pin in pins)) // MIB)
"""
    )
    # 256 MiB at a time, in any size, in the same 256 MiB; the rest is Python and torch.
    assert grown < 256 + 400


def test_no_memory_is_given_out_twice() -> None:
    run(
        """
before = [tensor(3, 7) for _ in range(4)]  # of the C library, freed after the change
keep_freed_memory()
errors = []

def work(seed):
    rng = random.Random(seed)
    alive = []
    for _ in range(300):
        if alive and rng.random() < 0.5:
            value, block = alive.pop(rng.randrange(len(alive)))
            if not bool((block == value).all()):
                errors.append(value)
        else:
            value = rng.randrange(256)
            block = torch.full((rng.randrange(1, 3 * MIB),), value, dtype=torch.uint8)
            assert block.data_ptr() % 64 == 0
            alive.append((value, block))

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not errors
assert all(bool((block == 7).all()) for block in before)
del before
gc.collect()
assert _C.tensor_bytes() == 0, _C.tensor_bytes()
"""
    )


def test_tensors_travel_between_threads_and_into_forked_processes() -> None:
    run(
        """
torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
keep_freed_memory()
block = tensor(8, 5)
taken = [block]
thread = threading.Thread(target=lambda: taken.clear())
thread.start(); thread.join()
child = os.fork()
if child == 0:
    good = bool((block == 5).all())
    block.fill_(9)
    more = [tensor(4) for _ in range(8)]
    del more, block
    os._exit(0 if good and _C.tensor_bytes() == 0 else 1)
assert os.waitpid(child, 0)[1] == 0
assert bool((block == 5).all())
"""
    )


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
print(int((stays == 3).all()))
"""
    )
    assert kept >= 255 and released <= 2 and alive


def test_onednn_keeps_fewer_kernels_unless_told_otherwise() -> None:
    code = """
keep_freed_memory()
print(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"])
"""
    told = 'os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "7"\n'
    unset = 'os.environ.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)\n'
    assert run(unset + code) == [256] and run(told + code) == [7]


def test_releasing_needs_no_heap() -> None:
    release_freed_memory()


def test_what_the_machine_does_not_have_is_refused() -> None:
    refused, served, kept = run(
        """
keep_freed_memory()
with open("/proc/meminfo") as file:
    table = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}
# Less than the machine has in all, which the system itself would let through.
free = table["MemAvailable"] + table["SwapFree"]
block = tensor(128)
del block
refused = 0
for bytes_ in (free + 2**32, 2 * table["MemTotal"]):
    try:
        torch.empty(bytes_, dtype=torch.uint8)
    except RuntimeError as error:
        refused += "can't allocate memory" in str(error)
print(refused, torch.empty(2**20 * 256, dtype=torch.uint8).numel() // MIB, _C.tensor_bytes())
"""
    )
    assert (refused, served, kept) == (2, 256, 0)
