"""Tokens of every item mapped to one width, side by side, dropped: what the item encoder reads."""

from odmt_fast.kernels.item_tokens.op import item_tokens
from odmt_fast.kernels.item_tokens.reference import Packed

__all__ = ["Packed", "item_tokens"]
