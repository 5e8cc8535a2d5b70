"""A bundle over HTTP: lists, similar items, new items, and a page to try them on.

The one room that imports Starlette, uvicorn and prometheus-client (the extra ``serve``).
"""

from __future__ import annotations

from odmt_fast.service.app import create_app
from odmt_fast.service.live import Live
from odmt_fast.service.server import serve

__all__ = ["Live", "create_app", "serve"]
