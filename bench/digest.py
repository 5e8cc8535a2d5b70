"""``python -m bench.digest``: what the digests of a token store cost, written and read."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.machine import machine
from bench.table import table
from odmt_fast.storage import file_digest, load_tensors, save_tensors, write_atomically

_WIDTH, _CHUNK = 768, 4 << 20


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.digest", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512, help="size of the file")
    parser.add_argument("--shown", type=float, default=5.0, help="GB that seconds are given for")
    parser.add_argument("--folder", type=Path, help="where to write; a folder for temporary files")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    rows = (asked.megabytes << 20) // (2 * _WIDTH)
    values = torch.randn(4096, _WIDTH).half().repeat(rows // 4096 + 1, 1)[:rows].contiguous()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        rates = measure(Path(folder, "store.safetensors"), values, asked.repeats)
    body = [
        [what, f"{rate:.2f} GB/s", f"{asked.shown / rate:.1f} s"] for what, rate in rates.items()
    ]
    print(table(["", "rate", f"{asked.shown:g} GB"], body))
    about = machine()
    print(f"\n<sub>{asked.megabytes} MB, {about['cores']} cores, {about['date']}.</sub>")


def measure(file: Path, values: torch.Tensor, repeats: int) -> dict[str, float]:
    """GB/s by what is done, the best of `repeats`; files are read from the page cache."""
    stored = {"values": values}
    ways: dict[str, Callable[[], object]] = {
        "written durably": lambda: write_atomically(file, lambda part: save_file(stored, part)),
        "written durably, with digest": lambda: save_tensors(file, stored, {}),
        "read": lambda: _read(file),
        "read and compared with the digest of the file (shards)": lambda: file_digest(file),
        "read into memory and compared (checkpoints)": lambda: load_tensors(file),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(repeats):
        for what, way in ways.items():
            began = time.perf_counter()
            way()
            best[what] = min(best[what], time.perf_counter() - began)
    return {what: values.nbytes / seconds / 1e9 for what, seconds in best.items()}


def _read(file: Path) -> None:
    buffer = memoryview(bytearray(_CHUNK))
    descriptor = os.open(file, os.O_RDONLY)
    try:
        while os.readv(descriptor, [buffer]):
            pass
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
