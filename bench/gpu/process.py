"""Runs a section's command, and ends it with all it started when its time is up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TAIL = 4000


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        state: "done", "failed" or "timeout".
        seconds: it took.
        error: None when done; else why, with the end of what it printed.
    """

    state: str
    seconds: float
    error: str | None


def run(
    command: Sequence[str], *, limit: float, log: Path, environment: Mapping[str, str], folder: Path
) -> Outcome:
    """Runs `command` in `folder` for at most `limit` seconds, its output going to `log`."""
    start = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=max(limit, 0.1))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    seconds = time.monotonic() - start
    if code == 0:
        return Outcome("done", seconds, None)
    printed = log.read_text(errors="replace")[-TAIL:].strip()
    if code is None:
        return Outcome("timeout", seconds, f"ran past its {limit:.0f} s\n{printed}")
    return Outcome("failed", seconds, f"exit code {code}\n{printed}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of the process group: the command itself, or compilers it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
