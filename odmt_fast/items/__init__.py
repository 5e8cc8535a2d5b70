"""Item encoder: distinct items of a batch -> one embedding per branch."""

from __future__ import annotations

from odmt_fast.items.encoder import ItemEncoder

__all__ = ["ItemEncoder"]
