"""Materialised logits of rows against distinct, debiased, masked columns."""

from odmt_fast.kernels.debiased_logits.op import debiased_logits
from odmt_fast.kernels.debiased_logits.reference import NEG, Candidates

__all__ = ["NEG", "Candidates", "debiased_logits"]
