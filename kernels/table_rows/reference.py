"""The law of `table_rows`: plain torch, any dtype."""

from __future__ import annotations

from torch import Tensor


def table_rows_reference(table: Tensor, rows: Tensor) -> Tensor:
    """table [n, d] at rows int64 [P], on one device -> [P, d]."""
    return table.index_select(0, rows)
