"""Keeps freed activation memory inside the process on CPU.

The C library serves every large tensor by a fresh mapping and unmaps it when it is freed, so each
training step faults in, zeroes and gives back all of its activations page by page. Its own heap can
be told to keep them instead, but small blocks of a long life (oneDNN's kernels among them) come to
lie between the large ones and leave holes of nearly their size.

Here the large tensors get a heap of their own (``csrc/block_heap.h``): a step reuses the pages of
the one before, and what is resident stays close to what is alive. torch has no hook for it that
works without its headers, so the import table of ``libc10.so``, torch's allocator, is redirected:
its calls of ``posix_memalign`` and ``free``, nobody else's.

oneDNN compiles kernels for every new number of rows, and each batch brings one. It keeps those of
its last 1,024 operations, several of 256 KiB each, which adds up to hundreds of MiB that are hardly
ever used again. Its limit is lowered here, unless ``ONEDNN_PRIMITIVE_CACHE_CAPACITY`` is set or
oneDNN has begun to work.

A tensor that the machine has no memory for is refused as torch refuses it, by a RuntimeError, also
within the limit of a container.

This holds for the whole process and cannot be undone; its price is that memory freed after a peak
stays with the process until `release_freed_memory`. On a GPU the activations live in torch's own
caching allocator, so only training on CPU asks for it.
"""

from __future__ import annotations

import os

from odmt_fast.kernels.backend import extension_missing

# A step needs about a hundred, those of the layers' repeated shapes among them.
_ONEDNN_OPERATIONS = 256


def keep_freed_memory() -> bool:
    """Lets CPU tensors of 1 MiB and more reuse the memory of freed ones; True if they do.

    Tensors that exist already stay where they are. False, and they do not, without the compiled
    extension, on other systems than Linux on x86-64 or ARM64, and with a torch that is not made of
    shared libraries.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_ONEDNN_OPERATIONS))
    if extension_missing("cpu"):
        return False
    from odmt_fast import _C

    taken: bool = _C.keep_freed_tensors()
    return taken


def release_freed_memory() -> None:
    """Returns the memory of freed tensors to the system; the next ones fault it in again."""
    if extension_missing("cpu") is None:
        from odmt_fast import _C

        _C.release_freed_tensors()
