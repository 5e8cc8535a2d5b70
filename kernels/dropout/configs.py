"""Tiles of the dropout kernel: bound by memory, so one size serves every architecture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DropoutConfig:
    """A program takes 4 * block_quads consecutive elements."""

    block_quads: int
    num_warps: int


REVIEWED = DropoutConfig(block_quads=512, num_warps=4)


def candidates() -> list[DropoutConfig]:
    """What ODMT_FAST_TUNE=1 tries."""
    return [DropoutConfig(quads, warps) for quads in (256, 512, 1024, 2048) for warps in (4, 8)]
