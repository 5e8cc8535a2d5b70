"""Attention within segments of packed tokens, for short segments and any head size."""

from __future__ import annotations

from odmt_fast.kernels.packed_attention.op import packed_attention, packed_self_attention
from odmt_fast.kernels.packed_attention.segments import LONGEST_SEGMENT

__all__ = ["LONGEST_SEGMENT", "packed_attention", "packed_self_attention"]
