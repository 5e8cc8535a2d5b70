"""Everything that exists only to look like the official code (GitHub ``xyliugo/ODMT``).

The model's own ``load_state_dict`` takes official checkpoints; `state_dict` gives the official keys
and shapes, `save` writes them, `optimizer_state` translates what an official optimizer kept.
"""

from __future__ import annotations

from odmt_fast.official.checkpoint import optimizer_state, save
from odmt_fast.official.facade import state_dict
from odmt_fast.official.state import model_state

__all__ = ["model_state", "optimizer_state", "save", "state_dict"]
