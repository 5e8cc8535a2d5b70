"""Tiles of the item_tokens kernels: bound by memory, so one size serves every architecture."""

from __future__ import annotations

LAYOUT_TOKENS = 128
"""Tokens of a modality that a program numbers at a time; an item has fewer as a rule."""
LAYOUT_WARPS = 2


def rows_of_a_program(block_d: int) -> tuple[int, int]:
    """(rows, warps) of a program that moves rows of block_d padded elements: 16 a thread."""
    warps = 4 if block_d <= 2048 else block_d // 512
    return max(1, 512 * warps // block_d), warps
