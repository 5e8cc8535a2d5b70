"""One command of ``odmt-fast`` in a forked process: what it printed and how it ended."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odmt_fast.cli import main


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        code: exit status; None when a signal ended it.
        signal: the signal that did; None when none did.
        hung: it did not end in time and was killed for that.
        out, err: what it printed.
    """

    code: int | None
    signal: int | None
    hung: bool
    out: str
    err: str

    @property
    def crashed(self) -> bool:
        """Whether it ended as no program should."""
        return self.hung or self.code is None or "Traceback (most recent call" in self.err

    @property
    def json(self) -> Any:
        """What ``--json`` printed last."""
        return json.loads(self.out.splitlines()[-1])

    def names(self, *paths: Path) -> bool:
        """Whether the refusal is a line that names one of `paths` and is not called a bug."""
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        if len(errors) != 1 or "(a bug;" in errors[0]:
            return False
        return any(path.name in errors[0] for path in paths)

    @property
    def last_line(self) -> str:
        """The end of what it said, for the notes."""
        lines = (self.err or self.out).splitlines()
        return lines[-1][:300] if lines else "(nothing)"


def start(words: Sequence[str], log: Path) -> int:
    """Forks ``odmt-fast words``, printing to `log`.out and `log`.err; its process id."""
    return fork(lambda: main(list(words)), log)


def fork(body: Callable[[], int | None], log: Path) -> int:
    """Forks a process that runs `body` and exits with what it returns; its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Before the fork, which may be killed at once.
    out, err = (open(f"{log}{end}", "wb") for end in (".out", ".err"))  # noqa: SIM115
    pid = os.fork()
    if pid:
        out.close()
        err.close()
        return pid
    code = 70
    try:
        os.dup2(out.fileno(), sys.stdout.fileno())
        os.dup2(err.fileno(), sys.stderr.fileno())
        code = body() or 0
    except BaseException:  # the traceback is what the parent looks for
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(pid: int, log: Path, seconds: float) -> Outcome:
    """Waits for a session, `seconds` at most."""
    deadline = time.monotonic() + seconds
    hung = False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            hung = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = os.WEXITSTATUS(status) if killed is None else None
    out, err = (Path(f"{log}{end}").read_text("utf-8", "replace") for end in (".out", ".err"))
    return Outcome(code, killed, hung, out, err)


def run(*words: str | Path, seconds: float = 60.0) -> Outcome:
    """Runs ``odmt-fast words`` to its end."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        return wait(start([str(word) for word in words], log), log, seconds)


def warm(*commands: Sequence[str | Path]) -> None:
    """Imports here what `commands` import on their way, so that forks need not do it again.

    Each is run once, in a fork, to see what that is; what a command does is done in its fork alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        log, names = Path(folder, "log"), Path(folder, "modules")
        for words in commands:

            def body(words: Sequence[str | Path] = words) -> int:
                code = main([str(word) for word in words])
                names.write_text("\n".join(sys.modules), "utf-8")
                return code

            done = wait(fork(body, log), log, 300)
            if done.code:
                raise RuntimeError(f"odmt-fast {' '.join(map(str, words))}: {done.last_line}")
            for name in names.read_text("utf-8").split("\n"):
                # Some names are only made on the way, and are no modules of their own.
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)


def kill_after(seconds: float, words: Sequence[str | Path]) -> Outcome:
    """Runs ``odmt-fast words`` and sends SIGKILL after `seconds`, if it lasts so long."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        pid = start([str(word) for word in words], log)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
                err = Path(f"{log}.err").read_text("utf-8", "replace")
                return Outcome(code, None if code is not None else status, False, "", err)
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        return wait(pid, log, 60.0)
