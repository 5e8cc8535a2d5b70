"""Token features of the items: encoders, extraction, and the store they are read from.

The package itself imports only the token types and `weights_digest` (torch, nothing else): `store`
needs safetensors, `extract` with a Hugging Face encoder needs transformers, images need Pillow.
"""

from __future__ import annotations

from odmt_fast.features.tokens import PackedTokens, TokenSource, TokenTable
from odmt_fast.features.weights import weights_digest

__all__ = ["PackedTokens", "TokenSource", "TokenTable", "weights_digest"]
