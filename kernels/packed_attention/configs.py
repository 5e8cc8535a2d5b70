"""Tiles of packed attention, by element size, longest segment and architecture.

All keys of a query lie in one tile, so the longest segment sets one side of it. The other side and
the chunks of the head size are chosen so that nothing spills at head size 384
(docs/kernels_aot.md). A float32 operand of the matrix units must lie in registers whole, and twice,
for three TF32 products: above 128 tokens its tiles are 16 wide, and where not even that fits the
plain units multiply. They also do on sm_75, for which this compiler knows no others. Chosen from
compiler reports: nothing here was timed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from odmt_fast.kernels.launch.device import Device, Entry, first_fitting, no_room

MOST_SEGMENTS = 32  # of one tile; bounds the search for a token's segment


@dataclass(frozen=True)
class Tile:
    """block_m queries x block_n keys; the head size in chunks."""

    block_m: int
    block_n: int
    block_d: int  # chunk of the products that sum over the head size
    block_o: int  # chunk of the products that write it
    num_warps: int
    num_stages: int
    fma: bool = False  # float32 without the matrix units

    def segments(self, max_seqlen: int) -> int:
        """How many segments share a tile."""
        return max(1, min(MOST_SEGMENTS, self.block_n // max_seqlen))


@dataclass(frozen=True)
class Backward:
    """One tile for all three gradients, or one of queries (dq) and one of keys (dk, dv)."""

    queries: Tile
    keys: Tile | None = None


FORWARD = {
    2: (
        Entry(64, Tile(64, 64, 64, 64, 4, 3), 48, architecture=80),
        Entry(64, Tile(64, 64, 16, 32, 8, 1), 24),
        Entry(128, Tile(128, 128, 64, 64, 8, 3), 96, architecture=90),
        Entry(128, Tile(128, 128, 64, 64, 8, 2), 64, architecture=80),
        Entry(128, Tile(32, 128, 16, 32, 8, 1), 32),
        Entry(256, Tile(64, 256, 32, 32, 8, 2), 68, architecture=80),
        Entry(256, Tile(32, 256, 16, 16, 8, 1), 48),
        Entry(512, Tile(32, 512, 32, 32, 8, 2), 66, architecture=80),
        Entry(512, Tile(16, 512, 16, 16, 8, 2), 64),
    ),
    4: (
        Entry(64, Tile(64, 64, 32, 16, 4, 2), 32, architecture=80),
        Entry(64, Tile(64, 64, 16, 16, 8, 1), 40),
        Entry(128, Tile(64, 128, 32, 32, 8, 2), 112, architecture=90),
        Entry(128, Tile(64, 128, 32, 16, 8, 2), 88, architecture=80),
        Entry(128, Tile(32, 128, 32, 16, 8, 2), 44),
        Entry(256, Tile(16, 256, 16, 32, 8, 2), 66, architecture=80),
        Entry(256, Tile(16, 256, 16, 16, 8, 1), 50),
        Entry(512, Tile(16, 512, 16, 16, 8, 1, fma=True), 64),
    ),
}

BACKWARD = {
    2: (
        Entry(64, Backward(Tile(64, 64, 64, 32, 4, 2)), 32, architecture=80),
        Entry(64, Backward(Tile(64, 64, 16, 32, 8, 1)), 24),
        Entry(128, Backward(Tile(128, 128, 64, 32, 8, 3)), 96, architecture=90),
        Entry(128, Backward(Tile(128, 128, 64, 32, 8, 2)), 112, architecture=80),
        Entry(
            128,
            Backward(Tile(64, 128, 64, 64, 8, 2), keys=Tile(128, 64, 64, 64, 8, 2)),
            64,
            architecture=80,
        ),
        Entry(128, Backward(Tile(32, 128, 16, 32, 8, 1), keys=Tile(128, 32, 16, 16, 8, 1)), 32),
        Entry(
            256,
            Backward(Tile(32, 256, 32, 32, 8, 2), keys=Tile(256, 32, 32, 32, 8, 2)),
            64,
            architecture=80,
        ),
        Entry(256, Backward(Tile(32, 256, 16, 16, 8, 1), keys=Tile(256, 32, 16, 16, 8, 1)), 48),
        Entry(512, Backward(Tile(16, 512, 32, 32, 8, 2), keys=Tile(512, 16, 32, 32, 8, 2)), 66),
        Entry(512, Backward(Tile(16, 512, 16, 16, 8, 2), keys=Tile(512, 16, 16, 16, 8, 2)), 64),
    ),
    4: (
        Entry(64, Backward(Tile(64, 64, 16, 16, 8, 2)), 56),
        Entry(
            128,
            Backward(Tile(64, 128, 32, 32, 8, 2), keys=Tile(128, 64, 32, 32, 8, 2)),
            112,
            architecture=90,
        ),
        Entry(
            128,
            Backward(Tile(32, 128, 32, 16, 8, 2), keys=Tile(128, 32, 32, 16, 8, 2)),
            42,
            architecture=80,
        ),
        Entry(128, Backward(Tile(32, 128, 32, 16, 8, 2), keys=Tile(128, 16, 16, 16, 8, 1)), 42),
        Entry(
            256,
            Backward(Tile(16, 256, 16, 64, 8, 1), keys=Tile(256, 16, 16, 32, 8, 2, fma=True)),
            96,
            architecture=80,
        ),
        Entry(256, Backward(Tile(16, 256, 16, 16, 8, 1), keys=Tile(256, 16, 16, 16, 8, 2)), 50),
        Entry(
            512,
            Backward(
                Tile(16, 512, 16, 16, 8, 1, fma=True), keys=Tile(512, 16, 16, 16, 8, 2, fma=True)
            ),
            96,
        ),
    ),
}


def forward_tile(device: Device, element_bytes: int, max_seqlen: int) -> Tile:
    """The table's tile of the forward."""
    return first_fitting(FORWARD[element_bytes], max_seqlen, device)


def backward_tiles(device: Device, element_bytes: int, max_seqlen: int) -> Backward:
    """The table's tiles of the backward."""
    return first_fitting(BACKWARD[element_bytes], max_seqlen, device)


def limit(device: Device, element_bytes: int, max_seqlen: int) -> str | None:
    """Why the device has no tiles for these segments; None when it has."""
    return no_room(FORWARD[element_bytes], max_seqlen, device) or no_room(
        BACKWARD[element_bytes], max_seqlen, device
    )


def forward_candidates(tile: Tile) -> list[Tile]:
    """What ODMT_FAST_TUNE=1 tries: the same keys, other chunks, warps, stages, rows."""
    return [
        replace(tile, block_m=m, block_d=d, block_o=o, num_warps=warps, num_stages=stages)
        for m in sorted({tile.block_m, max(16, tile.block_m // 2)})
        for d in (32, 64, 128)
        for o in (32, 64, 128)
        for warps in (4, 8)
        for stages in (2, 3)
    ]


def backward_candidates(tiles: Backward) -> list[Backward]:
    """What ODMT_FAST_TUNE=1 tries: the same tiles, other chunks, warps, stages."""

    def variant(tile: Tile | None, d: int, o: int, warps: int, stages: int) -> Tile | None:
        if tile is None:
            return None
        return replace(tile, block_d=d, block_o=o, num_warps=warps, num_stages=stages)

    settings = [(d, o, w, s) for d in (32, 64) for o in (32, 64) for w in (4, 8) for s in (2, 3)]
    return [
        Backward(variant(tiles.queries, *setting) or tiles.queries, variant(tiles.keys, *setting))
        for setting in settings
    ]
