"""Materialised logits of rows against distinct, debiased, masked columns."""

from odmt_fast.kernels.debiased_logits.op import debiased_logits
from odmt_fast.kernels.debiased_logits.reference import NEG, Columns

__all__ = ["NEG", "Columns", "debiased_logits"]
