"""Every answer that is no result: a status and one line ``{"error": ...}``."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from odmt_fast.service.batching import BusyError
from odmt_fast.service.live import OtherBundleError
from odmt_fast.storage import FolderInUseError, StorageError

_LONGEST = 400


class Json(JSONResponse):
    """JSON in ASCII: a title of a source may hold letters that UTF-8 has no bytes for."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def refusal(status: int, reason: str) -> Json:
    """A refusal; `reason` is made one line, and cut."""
    return Json({"error": " ".join(reason.split())[:_LONGEST]}, status)


_STATUS: dict[type[Exception], int] = {
    ValueError: 422,
    OtherBundleError: 409,
    FolderInUseError: 409,
    BusyError: 503,
    StorageError: 507,
}


def install(app: FastAPI) -> None:
    """Makes one-line refusals of what routes raise."""

    def invalid(request: Request, error: Exception) -> Json:
        assert isinstance(error, RequestValidationError)
        return refusal(422, "; ".join(map(_fault, error.errors()[:3])))

    def http(request: Request, error: Exception) -> Json:
        assert isinstance(error, HTTPException)
        return refusal(error.status_code, str(error.detail))

    def bug(request: Request, error: Exception) -> Json:
        return refusal(500, "a fault of the service; its log has the traceback")

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, bug)
    for kind, status in _STATUS.items():
        app.add_exception_handler(
            kind, lambda request, error, status=status: refusal(status, str(error))
        )


def _fault(entry: Any) -> str:
    place = ".".join(str(part) for part in entry["loc"] if part not in ("body", "query"))
    message = str(entry["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
