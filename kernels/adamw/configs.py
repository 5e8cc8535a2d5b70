"""Tiles of the adamw kernels: runs of elements of one tensor.

All is bound by memory. The update has four streams to read and up to four to write, 16 elements a
thread in flight of each; the norm has one, and walks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FlatConfig:
    """A chunk has `block` elements; the norm runs `waves` programs a processor."""

    block: int = 2048
    num_warps: int = 8
    waves: int = 8


REVIEWED = FlatConfig()
