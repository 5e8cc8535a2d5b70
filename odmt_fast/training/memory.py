"""Keeps freed activation memory inside the process on CPU.

glibc serves every large allocation by a fresh mapping and unmaps it when it is freed, so each
training step faults in, zeroes and gives back all of its activations page by page. Serving them
from the heap instead, and never trimming it, lets a step reuse the pages of the one before.

The setting holds for the whole process and cannot be undone; its price is that memory freed after a
peak stays with the process. On a GPU the activations live in torch's own caching allocator, so
only training on CPU asks for it.
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h of glibc.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4

_NEVER = -1  # any positive threshold is an int, 2 GiB at most: less than a large step frees
_GROWTH_BYTES = 64 * 2**20


def keep_freed_memory() -> bool:
    """Makes malloc reuse large blocks instead of returning them; True if the C library took it.

    Does nothing, and returns False, where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, _NEVER),
        (_M_TOP_PAD, _GROWTH_BYTES),
    )
    taken = [library.mallopt(name, value) for name, value in settings]
    return taken == [1] * len(settings)
