"""Everything that exists only to look like the official code (GitHub ``xyliugo/ODMT``).

``odmt_fast.official.state_dict(model)`` gives the official keys and shapes; the model's own
``load_state_dict`` takes them.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # Lazy: the reference needs `official.names` before the interface, which needs the reference.
    if name == "state_dict":
        from odmt_fast.official.interface import state_dict

        return state_dict
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
