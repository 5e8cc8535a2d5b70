"""Digests of content: XXH3, 128 bits. They tell faults and changes apart, not forgeries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xxhash

_CHUNK = 4 << 20


class Digest:
    """A running digest of a sequence of values.

    Every value is preceded by its length, so that ``add(b"a"), add(b"bc")`` differs from
    ``add(b"ab"), add(b"c")``.
    """

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_128()

    def add(self, value: bytes | memoryview | str | None) -> Digest:
        """Appends a value; None is a value of its own. Buffers are read where they lie."""
        if value is None:
            self._hash.update((2**64 - 1).to_bytes(8, "little"))
            return self
        buffer = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        size = buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
        self._hash.update(size.to_bytes(8, "little"))
        self._hash.update(buffer)
        return self

    def add_array(self, array: Any) -> Digest:
        """Appends a NumPy array: its dtype, shape and bytes."""
        self.add(f"{array.dtype.str}{list(array.shape)}")
        return self.add(memoryview(array.ravel(order="C").view("u1")))

    @property
    def hex(self) -> str:
        """32 hexadecimal digits."""
        return self._hash.hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's bytes, 32 hexadecimal digits; reads it in small pieces."""
    running = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            running.update(chunk)
    return running.hexdigest()
