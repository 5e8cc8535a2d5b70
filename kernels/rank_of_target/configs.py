"""Tiles of the Triton searches: chosen by ahead-of-time compilation; no device timed them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from odmt_fast.kernels.launch.device import Device


@dataclass(frozen=True)
class SearchConfig:
    """Tiles of block_m users and block_n items, products in steps of block_d."""

    block_m: int
    block_n: int
    block_d: int
    num_warps: int
    num_stages: int


HALVES = SearchConfig(block_m=64, block_n=32, block_d=64, num_warps=8, num_stages=3)
FLOATS = SearchConfig(block_m=32, block_n=32, block_d=32, num_warps=8, num_stages=3)


def reviewed(x: Tensor, device: Device) -> SearchConfig:
    """The tile for vectors like x; fewer stages where there is less shared memory than on sm_80."""
    config = FLOATS if x.dtype == torch.float32 else HALVES
    return config if device.architecture in (80, 90, 100) else replace(config, num_stages=2)


def candidates(config: SearchConfig) -> list[SearchConfig]:
    """What ODMT_FAST_TUNE=1 tries."""
    return [
        replace(config, block_m=m, block_n=n, num_warps=warps, num_stages=stages)
        for m in (32, 64, 128)
        for n in (64, 128)
        for warps in (4, 8)
        for stages in (2, 3, 4)
    ]


def shares(users: int, items: int, config: SearchConfig, device: Device) -> tuple[int, int]:
    """(shares, items of each): enough programs for two per multiprocessor."""
    tiles = max(1, -(-items // config.block_n))
    blocks = -(-users // config.block_m)
    wanted = max(1, min(tiles, 2 * device.processors // blocks))
    width = -(-tiles // wanted) * config.block_n
    return max(1, -(-items // width)), width
