"""Tiles of the ReLU's backward: a few rows of a run of columns at a time, bound by memory."""

from __future__ import annotations

from dataclasses import dataclass

from odmt_fast.kernels.launch.device import Device


@dataclass(frozen=True)
class StripConfig:
    """16 elements a thread; `waves` programs a processor walk down the rows."""

    block_rows: int = 4
    block_columns: int = 512
    num_warps: int = 4
    waves: int = 8


REVIEWED = StripConfig()


def strips(config: StripConfig, rows: int, columns: int, groups: int, device: Device) -> int:
    """Programs that share the rows of a group and a run of columns, each with a partial sum."""
    runs = -(-columns // config.block_columns) * groups
    wanted = -(-config.waves * device.processors // runs)
    return max(1, min(wanted, -(-rows // config.block_rows)))
