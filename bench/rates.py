"""What the device can do at best, measured in the process that reports shares of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import torch

from odmt_fast.kernels.linear import linear
from odmt_fast.kernels.linear.libraries import narrow


@dataclass(frozen=True)
class Rates:
    """Best rates of a device, each measured when it is first asked for.

    Attributes:
        device: "cuda" or "cpu".
        dtype: of the products.
        tiny: little work, where only the benches are tried.
    """

    device: str
    dtype: torch.dtype
    tiny: bool = False

    @cached_property
    def copy_bytes(self) -> float:
        """Bytes read and written per second by a copy of a large tensor."""
        elements = 2**16 if self.tiny else 2**29 if self.device == "cuda" else 2**26
        source = torch.zeros(elements, dtype=torch.bfloat16, device=self.device)
        target = torch.empty_like(source)
        return 4 * elements / _best_seconds(self.device, lambda: target.copy_(source))

    @cached_property
    def matmul_flop(self) -> float:
        """FLOP per second of `matmul_rate`."""
        size = 64 if self.tiny else 8192 if self.device == "cuda" else 1024
        return matmul_rate(self.dtype, self.device, size)


rates_of = cache(Rates)
"""The rates of this process."""


def matmul_rate(dtype: torch.dtype, device: str = "cpu", size: int = 4096) -> float:
    """FLOP/s of the best of a square and a tall product, by torch's matmul and by the engine's.

    The engine calls a faster library than torch does where there is one; a floor by the slower one
    would flatter it.
    """
    rates = []
    for rows, inner, columns in ((size, size, size), (5 * size, 768, 3072)):
        a = torch.randn(rows, inner, device=device).to(dtype)
        b = torch.randn(columns, inner, device=device).to(dtype)
        # torch's bf16 is no floor where the CPU lacks the instructions: minutes a product.
        products = [linear] if narrow(a) else [lambda a, b: a @ b.t(), linear]
        for product in products:
            seconds = _best_seconds(device, lambda: product(a, b))  # noqa: B023
            rates.append(2 * rows * inner * columns / seconds)
    return max(rates)


def _best_seconds(device: str, work: Callable[[], object]) -> float:
    """Of one call: the best of six; on a GPU of six times four that are queued together."""
    calls, best = 4 if device == "cuda" else 1, float("inf")
    for _ in range(6):
        _wait(device)
        start = time.perf_counter()
        for _ in range(calls):
            work()
        _wait(device)
        best = min(best, (time.perf_counter() - start) / calls)
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
