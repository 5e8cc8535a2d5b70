"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from odmt_fast.storage.atomic import naming, write_atomically

_LOCK = ".lock"
_HOLDER = ".lock-holder.json"


class FolderInUseError(RuntimeError):
    """Another process works in the folder; the message says which and since when."""


class FolderLock:
    """Holds `folder` for this process while the context lasts.

    The lock is the system's and dies with its process, so one left by a killed process is free.

    Args:
        folder: made when it is missing.
        doing: what for, told to others, such as "odmt-fast train".

    Raises:
        FolderInUseError: on entry, somebody else holds it.
        StorageError: on entry, the folder cannot be written.
    """

    def __init__(self, folder: Path, doing: str) -> None:
        self._folder, self._doing = folder, doing
        self._lock = FileLock(str(folder / _LOCK), timeout=0, thread_local=False)

    def __enter__(self) -> FolderLock:
        with naming(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise FolderInUseError(f"{self._folder} is in use: {self._holder()}") from None
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
            "doing": self._doing,
        }
        text = json.dumps(holder) + "\n"
        write_atomically(self._folder / _HOLDER, lambda part: part.write_text(text, "utf-8"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            (self._folder / _HOLDER).unlink(missing_ok=True)
        self._lock.release()

    def _holder(self) -> str:
        try:
            holder = json.loads((self._folder / _HOLDER).read_text("utf-8"))
            return (
                f"{holder['doing']} (pid {holder['pid']} on {holder['host']}) works there since "
                f"{holder['since']}; wait for it, or stop it"
            )
        except (OSError, ValueError, KeyError, TypeError):
            return "another process works there; wait for it, or stop it"
