"""Tiles of the gathered_rows kernels: bound by memory, so one size serves every architecture."""

from __future__ import annotations

ORDER_ROWS, ORDER_STEPS = 16, 256
"""Rows of the table a program orders the steps of, and steps it looks at together."""
SUMMED = 8
"""Steps of a row added at a time: as many loads are on the way."""
MOST_COLUMNS = 256
