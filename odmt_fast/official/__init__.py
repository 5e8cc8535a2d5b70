"""Everything that exists only to look like the official code (GitHub ``xyliugo/ODMT``).

The model's own ``load_state_dict`` takes official checkpoints; `state_dict` gives the official keys
and shapes, `save` writes them, `optimizer_state` translates what an official optimizer kept.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "model_state": "checkpoint",
    "optimizer_state": "checkpoint",
    "save": "checkpoint",
    "state_dict": "interface",
}


def __getattr__(name: str) -> Any:
    # Lazy: the reference needs `official.names` before the interface, which needs the reference.
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
