"""What a search needs: the ensemble's vectors, and the exact top-k over them."""

from __future__ import annotations

from odmt_fast.kernels.top_k import top_k
from odmt_fast.models.ensemble import item_vectors, user_vectors

__all__ = ["item_vectors", "top_k", "user_vectors"]
