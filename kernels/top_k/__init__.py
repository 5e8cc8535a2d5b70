"""The k best items of each user among a whole catalogue, exactly."""

from __future__ import annotations

from odmt_fast.kernels.top_k.op import top_k

__all__ = ["top_k"]
