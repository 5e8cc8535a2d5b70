"""Every answer that is no result: a status and one line ``{"error": ...}``."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ExceptionHandler

from odmt_fast.service.batching import BusyError
from odmt_fast.service.live import OtherBundleError
from odmt_fast.storage import FolderInUseError, StorageError

_LONGEST = 400
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


class Json(JSONResponse):
    """JSON in ASCII: a title of a source may hold letters that UTF-8 has no bytes for."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return _ENCODER.encode(content).encode("ascii")


def refusal(status: int, reason: str) -> Json:
    """A refusal; `reason` is made one line, and cut."""
    return Json({"error": " ".join(reason.split())[:_LONGEST]}, status)


def _invalid(request: Request, error: Exception) -> Json:
    assert isinstance(error, ValidationError)
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return refusal(422, "; ".join(map(_fault, faults[:3])))


def _http(request: Request, error: Exception) -> Json:
    assert isinstance(error, HTTPException)
    return refusal(error.status_code, str(error.detail))


def _bug(request: Request, error: Exception) -> Json:
    return refusal(500, "a fault of the service; its log has the traceback")


def _with(status: int) -> ExceptionHandler:
    return lambda request, error: refusal(status, str(error))


HANDLERS: dict[Any, ExceptionHandler] = {
    ValidationError: _invalid,
    HTTPException: _http,
    Exception: _bug,
    ValueError: _with(422),
    OtherBundleError: _with(409),
    FolderInUseError: _with(409),
    BusyError: _with(503),
    StorageError: _with(507),
}
"""What a route raises -> the refusal it becomes."""


def _fault(entry: Any) -> str:
    place = ".".join(map(str, entry["loc"]))
    message = str(entry["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
