"""GPUs that one may plan for without having one: what their makers state, and the share reached."""

from __future__ import annotations

from dataclasses import dataclass

_BYTES_SHARE, _FLOP_SHARE = 0.78, 0.72
_LAUNCH_SECONDS = 4e-6
"""Of the stated rates, what kernels of these kinds commonly reach; and a launch by the host."""


@dataclass(frozen=True)
class Card:
    """As stated for the SXM module of the name.

    Attributes:
        memory: bytes.
        bytes_per_second: of its memory.
        narrow_flop: FLOP per second of bf16 and fp16 products, dense.
        fp32_flop: of fp32 products.
    """

    memory: int
    bytes_per_second: float
    narrow_flop: float
    fp32_flop: float

    def seconds(self, made: float, flop: float, calls: int, *, narrow: bool) -> float:
        """Of a step that makes so many bytes, each written and read once, in so many launches.

        Products and the other operators follow each other.
        """
        rate = self.narrow_flop if narrow else self.fp32_flop
        moved = 2 * made / (_BYTES_SHARE * self.bytes_per_second)
        return moved + flop / (_FLOP_SHARE * rate) + _LAUNCH_SECONDS * calls


CARDS = {
    "a100": Card(80 * 10**9, 2.04e12, 312e12, 19.5e12),
    "h100": Card(80 * 10**9, 3.35e12, 989e12, 67e12),
    "h200": Card(141 * 10**9, 4.8e12, 989e12, 67e12),
}
"""NVIDIA's data sheets (A100 80GB SXM, H100 SXM, H200 SXM)."""
