"""What the C library's heap takes for the tensors that are made in it.

Freed memory is kept while a run trains (`odmt_fast.training.memory`), and blocks of a long life
come to lie between large ones, so that the process holds more than is alive. How much follows from
the order of the allocations: a step that is counted makes the same tensors in the same order, so
glibc itself says what it would take, without a page of it being touched.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from functools import cache
from pathlib import Path

from odmt_fast.training.memory import glibc, keep_freed_memory, release_freed_memory

_FEWEST, _PASSES = 2, 4
"""Steps after which a run is in its stride, and after which the heap hardly grows any more."""


class _Information(ctypes.Structure):
    """struct mallinfo2 (malloc.h)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@cache
def _mallinfo2() -> Callable[[], _Information] | None:
    if (libc := glibc()) is None:
        return None
    try:
        function = libc.mallinfo2  # glibc 2.33
    except AttributeError:
        return None
    function.restype = _Information
    return function


def heap_growth(step: Callable[[], object]) -> int | None:
    """Bytes that a process which takes `step` again and again adds to its heap.

    Args:
        step: makes and frees tensors; need not write to them.

    Returns:
        None where the C library does not tell.
    """
    information = _mallinfo2()
    gc.collect()
    release_freed_memory()
    if information is None or not keep_freed_memory():
        for _ in range(_FEWEST):
            step()
        return None
    before = information()
    for _ in range(_PASSES):
        step()
    after = information()
    return int(after.arena + after.hblkhd) - int(before.uordblks + before.hblkhd)


def resident_bytes() -> int | None:
    """Memory of this process that is not a file's (Linux); None where that is not told."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = (int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
    return next(found, None)
