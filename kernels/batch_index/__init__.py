"""Distinct items, occurrences, rows and histories of a batch, as index arrays."""

from odmt_fast.kernels.batch_index.op import batch_index
from odmt_fast.kernels.batch_index.reference import BatchIndex

__all__ = ["BatchIndex", "batch_index"]
