"""Keeps freed activation memory inside the process on CPU.

glibc serves every large tensor by a fresh mapping and unmaps it when it is freed, so each training
step faults in, zeroes and gives back all of its activations page by page. Its documented switches
(mallopt(3)) make it serve them from its heap and keep what is freed there, until it is released.
Small blocks of a long life can come to lie between large ones, so that a step holds a little more
than is alive; docs/performance.md has the figures, and those of other allocators.

Nothing else changes: a tensor the machine has no memory for is refused as ever, and with another
allocator (musl, macOS, one brought by ``LD_PRELOAD``) the switches do nothing. On a GPU the
activations live in torch's own caching allocator, so only training on CPU asks for it.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

# malloc.h; the values are part of glibc's ABI.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_NEVER = -1
_LARGEST = 2**31 - 1  # mallopt takes an int; larger tensors are mapped and given back as before


@cache
def glibc() -> ctypes.CDLL | None:
    """The C library of this process where it is glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def keep_freed_memory() -> bool:
    """Lets CPU tensors below 2 GiB reuse the memory of freed ones; True where glibc can do that.

    It holds for the process, until it ends. Tensors that exist already stay where they are.
    """
    libc = glibc()
    return (
        libc is not None
        and libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST) == 1
        and libc.mallopt(_M_TRIM_THRESHOLD, _NEVER) == 1
    )


def release_freed_memory() -> None:
    """Returns the memory of freed tensors to the system; the next ones fault it in again."""
    if (libc := glibc()) is not None:
        libc.malloc_trim(ctypes.c_size_t(0))
