"""Official attribute prefixes of the branches."""

from __future__ import annotations

# A further modality is its own prefix.
_PREFIXES = {"id": "id", "text": "t", "image": "v"}


def prefix(branch: str) -> str:
    """``t`` for "text": the start of ``t_user_encoder`` and ``t_dnns``."""
    return _PREFIXES.get(branch, branch)
