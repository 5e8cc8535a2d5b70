"""Sequential recommenders: an item encoder, a user encoder and a loss; nothing official in here.

A new user encoder, item encoder or loss is one file below this room and one line in `zoo`.
"""

from __future__ import annotations

from odmt_fast.models.base import SequentialModel

__all__ = ["SequentialModel"]
