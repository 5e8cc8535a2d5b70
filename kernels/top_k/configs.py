"""Tiles of the Triton top-k: a row of best items stands in registers beside each row of scores."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from odmt_fast.kernels.launch.device import Device
from odmt_fast.kernels.rank_of_target.configs import SearchConfig
from odmt_fast.kernels.rank_of_target.configs import reviewed as rank_tile

MOST = 128
"""Items that a program keeps of each user."""


def reviewed(x: Tensor, kept: int, device: Device) -> SearchConfig:
    """The tile for vectors like x: few users, and at least as many items as are kept."""
    tile = replace(rank_tile(x, device), block_m=16, block_n=max(64, kept))
    return replace(tile, num_warps=4 if kept <= 64 else 8)


def candidates(config: SearchConfig) -> list[SearchConfig]:
    """What ODMT_FAST_TUNE=1 tries."""
    return [
        replace(config, block_m=m, num_warps=warps, num_stages=stages)
        for m in (16, 32, 64)
        for warps in (4, 8)
        for stages in (2, 3, 4)
    ]


def limit(k: int) -> str | None:
    """Why the kernel does not serve k; None when it does."""
    return None if k <= MOST else f"it keeps at most {MOST} items of a user, got k={k}"
