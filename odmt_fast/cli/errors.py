"""Errors as one line that says what is wrong and, from the room that raised it, the remedy."""

from __future__ import annotations

from pydantic import ValidationError

from odmt_fast.cli import text

# What rooms raise about input, settings, files and machines: the message says it all.
_EXPECTED = (ValueError, OSError, RuntimeError, ImportError)


def one_line(error: BaseException) -> str:
    """The message of `error` for people, without line breaks or control characters."""
    if isinstance(error, ValidationError):
        return text.one_line(
            "; ".join(
                _setting(entry["loc"], entry["msg"], entry["input"]) for entry in error.errors()
            )
        )
    message = text.one_line(str(error)) or type(error).__name__
    if isinstance(error, _EXPECTED):
        return message
    return f"{type(error).__name__}: {message} (a bug; run with --debug for the traceback)"


def _setting(place: tuple[int | str, ...], message: str, value: object) -> str:
    name = ".".join(str(part) for part in place)
    message = message.removeprefix("Value error, ")
    # A rule over several settings has no value of its own and names them itself.
    return message if isinstance(value, dict) else f"{name}={value!r}: {message}"
