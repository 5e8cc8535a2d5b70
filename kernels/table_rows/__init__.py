"""Rows of a table that may lie in page-locked host memory beside a GPU."""

from __future__ import annotations

from odmt_fast.kernels.table_rows.op import table_rows

__all__ = ["table_rows"]
