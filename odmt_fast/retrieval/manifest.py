"""The one file of a bundle with a fixed name: it names the others, and says what they are."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from odmt_fast.storage import DamagedFileError, Digest, write_atomically

MANIFEST = "manifest.json"
FORMAT = "odmt_fast.bundle"
VERSION = 2
_ATTEMPTS = 10
"""Times that a bundle is read anew because it was exchanged meanwhile."""

Value = TypeVar("Value")


class MissingFileError(DamagedFileError):
    """A file that the manifest names is not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is missing; copy the whole folder")
        self.path = path


def is_bundle(folder: Path) -> bool:
    """Whether `folder` looks like a bundle."""
    return (folder / MANIFEST).is_file()


def check_free(folder: Path, *, overwrite: bool = False) -> None:
    """Raises a ValueError where a bundle lies in `folder`, or what `overwrite` must not replace."""
    if not is_bundle(folder):
        return
    if not overwrite:
        raise ValueError(
            f"{folder} holds a bundle; pass --overwrite (overwrite=True) to replace it, or name "
            "another folder"
        )
    with contextlib.suppress(ValueError):  # a damaged one may be replaced
        values = json.loads((folder / MANIFEST).read_bytes())
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise FileExistsError(
                f"{folder / MANIFEST} is not the manifest of a bundle; name another folder"
            )


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `write_manifest` wrote.

    Raises:
        ValueError: there is none, it is another program's or of another version, or
            (DamagedFileError) it was changed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(
            f"{folder} is not a bundle: it has no {MANIFEST}; make one with odmt-fast export RUN "
            f"{folder}"
        )
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
        if values["format"] != FORMAT:
            raise ValueError(f"{path} is not the manifest of a bundle (format is not {FORMAT!r})")
        version, digest = values["version"], values.pop("digest")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DamagedFileError(f"{path} is damaged: {error!r}; export again") from error
    if version != VERSION:
        raise ValueError(
            f"{path} has version {version}, this program reads version {VERSION}; update "
            "odmt_fast, or export the run again"
        )
    if digest != digest_of(values):
        raise DamagedFileError(f"{path} is damaged or was edited; export again")
    return values


def consistently(folder: Path, read: Callable[[dict[str, Any]], Value]) -> Value:
    """What `read` makes of the manifest and the files it names.

    It is called anew with the newer manifest where a file vanished since: a writer renames the
    manifest, then removes what the one before named.

    Raises:
        ValueError: see `read_manifest`; (MissingFileError) a file is not there; the bundle was
            exchanged every time that it was read.
    """
    for _ in range(_ATTEMPTS):
        manifest = read_manifest(folder)
        try:
            return read(manifest)
        except MissingFileError as error:
            if not error.path.exists() and read_manifest(folder) == manifest:
                raise
    raise ValueError(
        f"{folder} was exchanged {_ATTEMPTS} times while it was read; load it when it is written "
        "less often"
    )


def has_index(folder: Path) -> bool:
    """Whether a bundle with an approximate index lies in `folder`."""
    return is_bundle(folder) and read_manifest(folder).get("faiss") is not None


def write_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Writes it with a digest of itself: the moment at which the bundle changes."""
    values = {**values, "digest": digest_of(values)}
    write_text(folder / MANIFEST, json.dumps(values, indent=1) + "\n")


def digest_of(values: Mapping[str, Any]) -> str:
    """Of JSON values."""
    return Digest().add(json.dumps(values, sort_keys=True)).hex


def file_of(folder: Path, stem: str, digest: str, suffix: str) -> Path:
    """A file named by what it holds or belongs to."""
    return folder / f"{stem}-{digest[:12]}.{suffix}"


def write_text(path: Path, text: str) -> None:
    """Writes a text file, atomically."""
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))
