"""Peak resident memory of a stretch of code, from the kernel's own high-water mark."""

from __future__ import annotations

import gc
from pathlib import Path

from odmt_fast.training.memory import release_freed_memory

_KIB = 1024


class PeakMemory:
    """Starts counting when it is made (Linux; the mark is per process)."""

    def __init__(self) -> None:
        gc.collect()
        release_freed_memory()
        # 5 resets the high-water mark to the present size (proc(5), clear_refs).
        Path("/proc/self/clear_refs").write_text("5")
        self._start = _status("VmRSS")

    def peak(self) -> int:
        """Most bytes resident since the start."""
        return _status("VmHWM")

    def grown(self) -> int:
        """How much more than at the start that is."""
        return self.peak() - self._start


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * _KIB
    raise RuntimeError(f"/proc/self/status has no {field}")
