"""What the device can do at best, measured in the process that reports shares of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rates:
    """Best rates of the device.

    Attributes:
        copy_bytes: bytes read and written per second by a copy of a large tensor.
        matmul_flop: bf16 FLOP per second of the better of a square and a tall product.
    """

    copy_bytes: float
    matmul_flop: float

    @classmethod
    def measured(cls, device: torch.device, *, tiny: bool = False) -> Rates:
        """Measures both; `tiny` for a machine where only the harness is tried."""
        size, elements = (256, 2**20) if tiny else (8192, 2**29)
        shapes = ((size, size, size), (5 * size, 768, 3072))
        return cls(
            copy_bytes=_copy(device, elements),
            matmul_flop=max(_matmul(device, *shape) for shape in shapes[: 1 if tiny else 2]),
        )


def _copy(device: torch.device, elements: int) -> float:
    source = torch.zeros(elements, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    return 4 * elements / _best_seconds(device, lambda: target.copy_(source))


def _matmul(device: torch.device, rows: int, inner: int, columns: int) -> float:
    a = torch.randn(rows, inner, device=device).to(torch.bfloat16)
    b = torch.randn(inner, columns, device=device).to(torch.bfloat16)
    out = torch.empty(rows, columns, dtype=torch.bfloat16, device=device)
    return 2 * rows * inner * columns / _best_seconds(device, lambda: torch.mm(a, b, out=out))


def _best_seconds(device: torch.device, work: Callable[[], object], repeats: int = 4) -> float:
    """Seconds of one call: the best of six groups of `repeats` calls."""
    best = float("inf")
    for _ in range(6):
        if device.type == "cuda":
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            for _ in range(repeats):
                work()
            after.record()
            torch.cuda.synchronize(device)
            seconds = before.elapsed_time(after) / 1e3
        else:
            start = time.perf_counter()
            for _ in range(repeats):
                work()
            seconds = time.perf_counter() - start
        best = min(best, seconds / repeats)
    return best
