"""Errors as one line that says what is wrong and, from the room that raised it, the remedy."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from odmt_fast.cli import text
from odmt_fast.processes import launched

# What rooms raise about input, settings, files and machines: the message says it all.
_EXPECTED = (ValueError, OSError, RuntimeError, ImportError)
# What torch.distributed says in a process whose peer is gone.
_BROKEN = re.compile(r"[Cc]onnection (was )?(closed|reset)|Broken pipe|remote (worker|process)")


def one_line(error: BaseException) -> str:
    """The message of `error` for people, without line breaks or control characters."""
    if isinstance(error, ValidationError):
        return text.one_line(
            "; ".join(
                _setting(entry["loc"], entry["msg"], entry["input"]) for entry in error.errors()
            )
        )
    message = text.one_line(str(error)) or type(error).__name__
    if (asked := _out_of_memory(error, message)) is not None:
        return (
            f"out of memory{asked}; lower --set training.batch_size (for train) or "
            "evaluation.batch_size, or set training.micro_items=256"
        )
    if launched().count > 1 and isinstance(error, RuntimeError) and _BROKEN.search(message):
        return "another process of this command ended; start the command again to go on"
    if isinstance(error, _EXPECTED):
        return message
    return f"{type(error).__name__}: {message} (a bug; run with --debug for the traceback)"


def about_usage(error: Any) -> str:
    """An error of Typer's about the words of the command line, in one line with where to look."""
    where = f"; see {error.ctx.command_path} --help" if error.ctx is not None else ""
    return text.one_line(error.format_message()).rstrip(".") + where


def _out_of_memory(error: BaseException, message: str) -> str | None:
    """What was asked for, when memory of the machine or of a GPU ran out; else None."""
    torch_s = isinstance(error, RuntimeError) and any(
        words in message
        for words in ("can't allocate memory", "not enough memory", "out of memory")
    )
    if not (torch_s or isinstance(error, MemoryError)):
        return None
    asked = re.search(r"tried to allocate (\d[\d.]*) ?(bytes|[KMG]iB)", message, re.IGNORECASE)
    if asked is None:
        return ""
    if asked[2].lower() == "bytes":
        return f" for a tensor of {int(asked[1]) / 2**30:.2f} GiB"
    return f" for a tensor of {asked[1]} {asked[2]}"


def _setting(place: tuple[int | str, ...], message: str, value: object) -> str:
    name = ".".join(str(part) for part in place)
    message = message.removeprefix("Value error, ")
    # A rule over several settings has no value of its own and names them itself.
    return message if isinstance(value, dict) else f"{name}={value!r}: {message}"
