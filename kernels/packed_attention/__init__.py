"""Attention within segments of packed tokens, for short segments and any head size."""

from __future__ import annotations

from odmt_fast.kernels.packed_attention.op import packed_attention, packed_self_attention

__all__ = ["packed_attention", "packed_self_attention"]
