"""What checking a file costs: ``python -m bench.digest`` reads a large file with and without.

A token store is checked shard by shard on first touch, a checkpoint whole when it is loaded; both
by XXH3 (128 bits) as this module times it, on a file that is in the page cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from odmt_fast.storage import file_digest

CHUNK = 64 << 20
REPEATS = 3


def main() -> None:
    """Prints seconds and GB/s."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "file")
        chunk = np.random.default_rng(1).bytes(CHUNK)
        size = int(asked.gigabytes * 1e9)
        with file.open("wb") as out:
            for start in range(0, size, CHUNK):
                out.write(chunk[: size - start])
        for name, body in (("read", _read), ("read and digest", file_digest)):
            seconds = min(_seconds(body, file) for _ in range(REPEATS))
            print(f"{name:16} {seconds:6.2f} s  {size / seconds / 1e9:6.2f} GB/s")


def _read(file: Path) -> None:
    with file.open("rb", buffering=0) as source:
        buffer = bytearray(CHUNK)
        while source.readinto(buffer):
            pass


def _seconds(body: Callable[[Path], object], file: Path) -> float:
    began = time.perf_counter()
    body(file)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
