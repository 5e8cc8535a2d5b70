"""Tiles of readout attention, by element size, longest segment and architecture.

A program holds all keys of a segment; the width goes in chunks, chosen so that nothing spills at
width 768 (docs/kernels_aot.md). A float32 operand of the matrix units must lie in registers whole,
and twice, for three TF32 products: where it does not fit beside the rest the plain units multiply,
as they do on sm_75, for which this compiler knows no others. Chosen from compiler reports: nothing
here was timed. Where no entry fits (sm_75, above 256 tokens) the reference runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from odmt_fast.kernels.launch.device import Device, Entry, first_fitting, no_room

TABLE_ROWS = 16  # padded readouts * heads that shared_kib was measured with


@dataclass(frozen=True)
class Tile:
    """All readout rows x block_n keys; the width in chunks of block_d."""

    block_n: int
    block_d: int
    num_warps: int
    num_stages: int
    fma: bool = False  # float32 without the matrix units


FORWARD = {
    2: (
        Entry(64, Tile(64, 64, 4, 3), 24, architecture=80),
        Entry(64, Tile(64, 16, 4, 1), 16),
        Entry(128, Tile(128, 64, 4, 3), 40, architecture=80),
        Entry(128, Tile(128, 16, 8, 1), 16),
        Entry(256, Tile(256, 32, 8, 2), 48, architecture=80),
        Entry(256, Tile(256, 16, 8, 1), 32),
        Entry(512, Tile(512, 32, 8, 2), 49, architecture=80),
        Entry(512, Tile(512, 16, 16, 1), 64),
    ),
    4: (
        Entry(64, Tile(64, 32, 4, 2), 24),
        Entry(128, Tile(128, 32, 4, 2), 34, architecture=80),
        Entry(128, Tile(128, 16, 8, 1), 16),
        Entry(256, Tile(256, 32, 8, 2), 66, architecture=80),
        Entry(256, Tile(256, 16, 8, 1, fma=True), 50),
        Entry(512, Tile(512, 16, 16, 1, fma=True), 64),
    ),
}

BACKWARD = {
    2: (
        Entry(64, Tile(64, 64, 4, 2), 32, architecture=80),
        Entry(64, Tile(64, 16, 4, 1), 24),
        Entry(128, Tile(128, 64, 4, 2), 56, architecture=80),
        Entry(128, Tile(128, 16, 8, 1), 32),
        Entry(256, Tile(256, 32, 8, 2), 52, architecture=80),
        Entry(256, Tile(256, 16, 8, 1), 64),
        Entry(512, Tile(512, 32, 8, 2), 92, architecture=80),
    ),
    4: (
        Entry(64, Tile(64, 32, 4, 2), 48),
        Entry(128, Tile(128, 32, 4, 2), 84, architecture=90),
        Entry(128, Tile(128, 16, 4, 2), 66, architecture=80),
        Entry(128, Tile(128, 16, 4, 2), 26),
        Entry(256, Tile(256, 16, 8, 1, fma=True), 50),
        Entry(512, Tile(512, 16, 8, 1, fma=True), 98),
    ),
}


def limit(device: Device, element_bytes: int, max_seqlen: int, block_r: int) -> str | None:
    """Why the device has no tiles for these segments; None when it has."""
    share = block_r / TABLE_ROWS
    return no_room(FORWARD[element_bytes], max_seqlen, device, share) or no_room(
        BACKWARD[element_bytes], max_seqlen, device, share
    )


def padded_rows(rows: int) -> int:
    """Rows of the tile for readouts * heads rows: a matrix product takes 16, 32, ..."""
    return max(16, 1 << (rows - 1).bit_length())


def forward_tile(device: Device, element_bytes: int, max_seqlen: int, block_r: int) -> Tile:
    """The table's tile of the forward for block_r padded rows."""
    return first_fitting(FORWARD[element_bytes], max_seqlen, device, block_r / TABLE_ROWS)


def backward_tile(device: Device, element_bytes: int, max_seqlen: int, block_r: int) -> Tile:
    """The table's tile of the backward for block_r padded rows."""
    return first_fitting(BACKWARD[element_bytes], max_seqlen, device, block_r / TABLE_ROWS)


def candidates(tile: Tile) -> list[Tile]:
    """What ODMT_FAST_TUNE=1 tries: the same keys, other chunks, warps, stages."""
    return [
        replace(tile, block_d=d, num_warps=warps, num_stages=stages)
        for d in (16, 32, 64, 128)
        for warps in (4, 8)
        for stages in (1, 2, 3)
    ]
