"""Tiles of the residual_norm kernels: whole rows, a few at a time.

Both passes are bound by memory; what matters is that a thread holds 4 to 16 elements, that loads
are 16 bytes wide, and that enough programs run to fill the device.
"""

from __future__ import annotations

from dataclasses import dataclass

from odmt_fast.kernels.launch.device import Device


@dataclass(frozen=True)
class RowConfig:
    """A step of a program takes block_rows rows.

    The backward runs `waves` programs a processor, what its registers hold, and loads the rows of
    stages - 1 steps ahead: memory answers late, and a processor must have about 30 KiB on the way
    (4.8 TB/s of an H200, 0.8 us, 132 processors).
    """

    block_rows: int
    num_warps: int
    waves: int = 3
    stages: int = 3


# By the width rounded up to a power of two; the last line serves everything wider.
REVIEWED = (
    (128, RowConfig(block_rows=16, num_warps=4)),
    (512, RowConfig(block_rows=4, num_warps=4)),
    (1024, RowConfig(block_rows=2, num_warps=4, waves=4)),
    (2048, RowConfig(block_rows=1, num_warps=4)),
    (4096, RowConfig(block_rows=1, num_warps=8, waves=1)),
    (8192, RowConfig(block_rows=1, num_warps=16, waves=1, stages=1)),
)


def reviewed(block_d: int) -> RowConfig:
    """The table's line for rows of block_d padded elements; the same on every architecture."""
    return next(config for width, config in REVIEWED if block_d <= width)


def candidates(block_d: int) -> list[RowConfig]:
    """What ODMT_FAST_TUNE=1 tries: 4 to 32 elements a thread."""
    return [
        RowConfig(rows, warps, waves)
        for rows in (1, 2, 4, 8, 16)
        for warps in (2, 4, 8, 16)
        for waves in (2, 3, 4)
        if 4 <= rows * block_d // (32 * warps) <= 32
    ]


def backward_programs(config: RowConfig, rows: int, groups: int, device: Device) -> int:
    """Programs per group of the backward: each leaves one partial sum of the weight gradient."""
    wanted = -(-config.waves * device.processors // groups)
    return max(1, min(wanted, -(-rows // config.block_rows)))
