"""Tiles of the flash engine's kernels, how the columns are shared out and the rows panelled.

The tables are by element size, number of branches and architecture. They were chosen by
ahead-of-time compilation (nothing spills at D = 768, docs/kernels_aot.md) and on paper; no device
has timed them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from odmt_fast.kernels.distilled_softmax.spec import MAX_BRANCHES
from odmt_fast.kernels.launch.device import Device, device_of


@dataclass(frozen=True)
class TileConfig:
    """A tile of block_m x block_n, products looped in steps of block_d."""

    block_m: int
    block_n: int
    block_d: int
    num_warps: int
    num_stages: int


def block_d(width: int, config: TileConfig) -> int:
    """The step over D: at most the config's, the largest of those that pad D least."""
    steps = [s for s in (128, 64, 32, 16) if s <= config.block_d]
    return min(steps, key=lambda s: (-(-width // s) * s, -s))


def tile_arguments(width: int, config: TileConfig) -> dict[str, int]:
    """How a score kernel is launched with this tile."""
    return {
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCK_D": block_d(width, config),
        "num_warps": config.num_warps,
        "num_stages": config.num_stages,
    }


def _ring_bytes(config: TileConfig, element_size: int) -> int:
    return config.num_stages * (config.block_m + config.block_n) * config.block_d * element_size


Table = dict[int, dict[int, TileConfig]]
"""Most branches -> first architecture -> tile."""

# The smaller of a table serves where shared memory does not hold the larger. K tiles of scores
# stand in registers together, in the forward beside the statistics of their rows. On sm_100
# products gather outside of the registers, at full rate with 128 rows.
WIDE, SQUARE = TileConfig(128, 32, 64, 8, 3), TileConfig(64, 64, 64, 8, 3)
NARROW, SMALL = TileConfig(64, 32, 64, 8, 3), TileConfig(32, 32, 64, 8, 3)
FORWARD_16: Table = {
    3: {100: WIDE, 80: NARROW, 0: TileConfig(32, 32, 32, 8, 2)},
    MAX_BRANCHES: {100: NARROW, 80: SMALL, 0: TileConfig(32, 32, 32, 8, 2)},
}
BACKWARD_16: Table = {
    3: {80: SQUARE, 0: TileConfig(64, 64, 32, 8, 2)},
    MAX_BRANCHES: {100: TileConfig(64, 32, 32, 8, 3), 80: NARROW, 0: TileConfig(64, 32, 32, 8, 2)},
}
SCORES_32: Table = {
    3: {80: TileConfig(32, 32, 32, 8, 3), 0: TileConfig(32, 32, 32, 8, 2)},
    MAX_BRANCHES: {80: TileConfig(32, 16, 32, 8, 3), 0: TileConfig(32, 16, 32, 8, 2)},
}
PRODUCT_16: Table = {
    MAX_BRANCHES: {80: TileConfig(128, 64, 64, 8, 3), 0: TileConfig(32, 32, 32, 4, 2)}
}
PRODUCT_32: Table = {
    MAX_BRANCHES: {80: TileConfig(64, 64, 32, 8, 3), 0: TileConfig(32, 32, 32, 4, 2)}
}

# Elements of a branch's panel of gradients that are never too many: 12 MB for three in bf16, which
# stay in L2.
PANEL = 2**21

# Most chunks of the memory budget for which logits are stored, by architecture: up to here matrix
# products at full rate and logits through memory cost less than the flash engine's smaller tiles;
# beyond, every chunk's pass over d(items) adds up. On paper (README.md), like the tiles.
STORED_CHUNKS = {100: 16, 90: 16, 80: 16, 0: 16}


def stored_chunks(device: Device) -> int:
    """Up to how many chunks the stored engine is chosen on a device."""
    return next(STORED_CHUNKS[since] for since in STORED_CHUNKS if device.architecture >= since)


def _reviewed(x: Tensor, halves: Table, floats: Table) -> TileConfig:
    """The table's tile for x [K, ...] and its element size on its device."""
    device = device_of(x)
    table = halves if x.element_size() == 2 else floats
    tiles = table[min(most for most in table if x.shape[0] <= most)]
    fitting = [
        tiles[since]
        for since in sorted(tiles, reverse=True)
        if device.architecture >= since
        and _ring_bytes(tiles[since], x.element_size()) <= device.shared_bytes
    ]
    return fitting[0]


def forward_config(queries: Tensor) -> TileConfig:
    """The tile of distilled_softmax_fwd_kernel."""
    return _reviewed(queries, FORWARD_16, SCORES_32)


def backward_config(queries: Tensor) -> TileConfig:
    """The tile of distilled_softmax_bwd_kernel."""
    return _reviewed(queries, BACKWARD_16, SCORES_32)


def product_config(a: Tensor) -> TileConfig:
    """The tile of panel_product_kernel; block_d is the step over the summed dimension."""
    return _reviewed(a, PRODUCT_16, PRODUCT_32)


def _candidates(tile: TileConfig, sides: tuple[tuple[int, int], ...]) -> list[TileConfig]:
    return [
        replace(tile, block_m=m, block_n=n, block_d=d, num_warps=warps, num_stages=stages)
        for m, n in sides
        for d in (32, 64)
        for warps in (4, 8)
        for stages in (2, 3, 4)
    ]


def score_candidates(tile: TileConfig) -> list[TileConfig]:
    """What ODMT_FAST_TUNE=1 tries for the two kernels with K tiles of scores."""
    return _candidates(tile, ((32, 32), (64, 32), (64, 64), (128, 32)))


def product_candidates(tile: TileConfig) -> list[TileConfig]:
    """What ODMT_FAST_TUNE=1 tries for the products of panels."""
    return _candidates(tile, ((64, 64), (128, 64), (128, 128), (256, 64)))


def shares(rows: int, columns: int, config: TileConfig, device: Device) -> tuple[int, int]:
    """(number of shares, columns of a share): enough programs for two per multiprocessor."""
    row_blocks = -(-rows // config.block_m)
    tiles = -(-columns // config.block_n)
    wanted = max(1, min(tiles, 2 * device.processors // row_blocks))
    tiles_per_share = -(-tiles // wanted)
    return -(-tiles // tiles_per_share), tiles_per_share * config.block_n


def panel_rows(rows: int, columns: int, width: int, config: TileConfig) -> int:
    """Rows of a panel of gradients: its elements are about as many as the queries', or PANEL.

    Panels are equal, of whole tiles.
    """
    wanted = max(config.block_m, max(rows * width, PANEL) // columns)
    panels = -(-rows // wanted)
    return -(-rows // (panels * config.block_m)) * config.block_m
