"""A linear map of packed rows, one for all or one per group of rows."""

from odmt_fast.kernels.linear.copies import cast
from odmt_fast.kernels.linear.float8 import float8_linear
from odmt_fast.kernels.linear.op import linear

__all__ = ["cast", "float8_linear", "linear"]
