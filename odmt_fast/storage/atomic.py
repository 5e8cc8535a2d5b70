"""The one way to write a file: beside its place, durably, then renamed into it."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path


class StorageError(OSError):
    """A file or folder cannot be written; the message is one line with the path."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a new file beside `path`, makes it durable, and renames it into place.

    Killed at any moment, it leaves the old file or the new one. The file has the permissions that
    the umask gives, whatever `write` set.

    Args:
        path: the file; its folder is made when it is missing.
        write: is given the path to write to.

    Raises:
        StorageError: the disk is full, the folder is read-only, or the like. An error of `write`
            that is none of the disk is raised as it is; no part is left behind in either case.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.touch()
            mode = part.stat().st_mode & 0o777
            write(part)
            part.chmod(mode)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def remove_unfinished(path: Path) -> None:
    """Removes what killed writers of `path` left beside it; nobody may be writing it."""
    name = re.compile(rf"\.{re.escape(path.name)}\.\d+-\d+\.part")
    for part in path.parent.glob(".*.part"):
        if name.fullmatch(part.name):
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turns errors of the disk into a StorageError that names `path`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{path} cannot be written: {reason.lower()}") from error


def _sync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
