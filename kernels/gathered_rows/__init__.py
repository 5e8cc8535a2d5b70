"""Rows of a table that learns, and the sums of the gradients of equal rows."""

from odmt_fast.kernels.gathered_rows.op import gathered_rows

__all__ = ["gathered_rows"]
