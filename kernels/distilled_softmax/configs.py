"""Tiles of the flash engine's kernels, and how the columns are shared out and panelled.

The tables are by architecture and element size. They were chosen by ahead-of-time compilation (no
spills at K = 3, D = 768, bf16) and on paper; no device has timed them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

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


def _ring_bytes(config: TileConfig, element_size: int) -> int:
    return config.num_stages * (config.block_m + config.block_n) * config.block_d * element_size


# From the architecture on; the smaller serves where shared memory does not hold it. The forward
# keeps the statistics of its rows beside K tiles of scores, hence its narrower tile before sm_100,
# whose products gather outside of the registers.
NARROW, SQUARE = TileConfig(64, 32, 64, 8, 3), TileConfig(64, 64, 64, 8, 3)
FORWARD_16 = {100: SQUARE, 80: NARROW, 0: TileConfig(64, 32, 32, 8, 2)}
BACKWARD_16 = {80: SQUARE, 0: TileConfig(64, 64, 32, 8, 2)}
SCORES_32 = {80: TileConfig(32, 32, 32, 8, 3), 0: TileConfig(32, 32, 32, 8, 2)}
PRODUCT_16 = {80: TileConfig(128, 64, 64, 8, 3), 0: TileConfig(64, 64, 32, 4, 2)}
PRODUCT_32 = {80: TileConfig(64, 64, 32, 8, 3), 0: TileConfig(32, 32, 32, 4, 2)}

# Most chunks of the memory budget for which logits are stored, by architecture: up to here matrix
# products at full rate and logits through memory cost less than the flash engine's smaller tiles;
# beyond, every chunk's pass over d(items) adds up. On paper (README.md), like the tiles.
STORED_CHUNKS = {100: 16, 90: 16, 80: 16, 0: 16}


def stored_chunks(device: Device) -> int:
    """Up to how many chunks the stored engine is chosen on a device."""
    return next(STORED_CHUNKS[since] for since in STORED_CHUNKS if device.architecture >= since)


def _reviewed(
    x: Tensor, halves: dict[int, TileConfig], floats: dict[int, TileConfig]
) -> TileConfig:
    """The table's tile for x's element size on its device."""
    device = device_of(x)
    table = halves if x.element_size() == 2 else floats
    fitting = [
        table[since]
        for since in sorted(table, reverse=True)
        if device.architecture >= since
        and _ring_bytes(table[since], x.element_size()) <= device.shared_bytes
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


def shares(rows: int, columns: int, config: TileConfig, device: Device) -> tuple[int, int]:
    """(number of shares, columns of a share): enough programs for two per multiprocessor."""
    row_blocks = -(-rows // config.block_m)
    tiles = -(-columns // config.block_n)
    wanted = max(1, min(tiles, 2 * device.processors // row_blocks))
    tiles_per_share = -(-tiles // wanted)
    return -(-tiles // tiles_per_share), tiles_per_share * config.block_n


def panel_width(columns: int, width: int, config: TileConfig) -> int:
    """Columns of a panel of gradients: about D, at least 512, whole tiles, no more than needed."""
    wanted = min(columns, max(width, 512))
    return -(-wanted // config.block_n) * config.block_n
