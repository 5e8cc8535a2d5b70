"""What the device can do at best, measured in the process that reports shares of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import torch

from odmt_fast.studies.floor import best_seconds, matmul_rate


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
        return 4 * elements / best_seconds(self.device, lambda: target.copy_(source))

    @cached_property
    def matmul_flop(self) -> float:
        """FLOP per second of `matmul_rate`."""
        size = 64 if self.tiny else 8192 if self.device == "cuda" else 1024
        return matmul_rate(self.dtype, self.device, size)


rates_of = cache(Rates)
"""The rates of this process."""
