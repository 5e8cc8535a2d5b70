"""Prepared datasets on disk: two Parquet files and the manifest that makes them a dataset.

``dataset.json`` names the other files with their SHA-256. New files get new names and the rename of
the manifest is the one moment at which the dataset changes, so it is never half old, half new.
Pictures stay where they are; their paths are stored relative to the directory, so a dataset moves
together with its pictures.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError
from odmt_fast.data.items import ImageSource, ItemTable
from odmt_fast.data.report import Report
from odmt_fast.data.sequences import Sequences
from odmt_fast.data.split import split_kind
from odmt_fast.storage import FolderLock, write_atomically
from odmt_fast.storage.atomic import naming

MANIFEST = "dataset.json"
FORMAT = "odmt_fast.interactions"
VERSION = 1
VERSION_WITH_PARTS = 2  # so that a program that knows no ready-made split refuses one
_OWN = re.compile(r"(sequences|items)-[0-9a-f]{12}\.parquet")


class Contents(NamedTuple):
    """What a prepared dataset holds; `Interactions` says what it is."""

    users: tuple[str, ...]
    items: ItemTable
    sequences: Sequences
    report: Report
    parts: NDArray[np.int8] | None


def save(data: Contents, directory: Path) -> Path:
    """Writes `data` to `directory`; see `Interactions.save`."""
    with FolderLock(directory, "odmt-fast prepare"):
        return _save(data, directory)


def _save(data: Contents, directory: Path) -> Path:
    import pyarrow as pa

    previous = _stored_files(directory)
    offsets = pa.array(data.sequences.offsets)
    columns = {
        "user": pa.array(data.users, pa.string()),
        "items": pa.LargeListArray.from_arrays(offsets, pa.array(data.sequences.items)),
    }
    if data.parts is not None:
        columns["parts"] = pa.LargeListArray.from_arrays(offsets, pa.array(data.parts))
    sequences = pa.table(columns)
    base = Path(os.path.realpath(directory))
    images = data.items.images
    items = pa.table(
        {
            "id": pa.array(data.items.ids, pa.string()),
            "text": pa.array(data.items.texts, pa.string()),
            "image": pa.array(
                [i and Path(os.path.relpath(i.path, base)).as_posix() for i in images], pa.string()
            ),
            "image_key": pa.array([i and i.key for i in images], pa.string()),
        }
    )
    files = {
        "sequences": _write_parquet(sequences, directory, "sequences"),
        "items": _write_parquet(items, directory, "items"),
    }
    manifest = {
        "format": FORMAT,
        "version": VERSION if data.parts is None else VERSION_WITH_PARTS,
        "split": split_kind(data.parts),
        "users": len(data.users),
        "items": len(data.items),
        "interactions": int(data.sequences.items.size),
        "files": files,
        "report": asdict(data.report),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    write_atomically(directory / MANIFEST, lambda part: part.write_text(text, "utf-8"))
    for name in previous - {entry["name"] for entry in files.values()}:
        (directory / name).unlink(missing_ok=True)
    return directory


def load(directory: Path) -> Contents:
    """Reads and verifies the dataset in `directory`; see `Interactions.load`."""
    manifest = _manifest(directory)
    try:
        counts = {name: int(manifest[name]) for name in ("users", "items", "interactions")}
        files = {name: manifest["files"][name] for name in ("sequences", "items")}
        paths = {name: _verified(directory, entry) for name, entry in files.items()}
        report = Report(**manifest["report"])
    except (KeyError, TypeError) as error:
        raise DataError(directory / MANIFEST, f"the manifest is damaged: {error!r}") from error

    import pyarrow.parquet as pq

    table = pq.read_table(paths["items"])
    base = Path(os.path.realpath(directory))
    images = tuple(
        ImageSource(Path(os.path.normpath(base / path)), key) if path is not None else None
        for path, key in zip(
            table["image"].to_pylist(), table["image_key"].to_pylist(), strict=True
        )
    )
    items = ItemTable(tuple(table["id"].to_pylist()), tuple(table["text"].to_pylist()), images)
    table = pq.read_table(paths["sequences"])
    lists = table["items"].combine_chunks()
    sequences = Sequences(np.asarray(lists.values), np.asarray(lists.offsets))
    users = tuple(table["user"].to_pylist())
    parts = None
    if "parts" in table.column_names:
        parts = np.asarray(table["parts"].combine_chunks().values)
    if manifest.get("split", "leave-one-out") != split_kind(parts):
        raise DataError(
            directory / MANIFEST,
            f"says split {manifest.get('split')!r}, the files hold a {split_kind(parts)} one; "
            "prepare the dataset again",
        )
    found = {"users": len(users), "items": len(items), "interactions": sequences.items.size}
    for name, expected in counts.items():
        if found[name] != expected:
            raise DataError(
                directory / MANIFEST, f"says {expected} {name} but the files hold {found[name]}"
            )
    return Contents(users, items, sequences, report, parts)


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(
            directory, f"no prepared dataset is here ({MANIFEST} is absent); prepare it first"
        ) from None
    except ValueError as error:
        raise DataError(path, f"the manifest is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise DataError(path, f"this is not the manifest of a dataset (format is not {FORMAT!r})")
    if manifest.get("version") not in (VERSION, VERSION_WITH_PARTS):
        raise DataError(
            path,
            f"format version {manifest.get('version')} cannot be read, this program reads version "
            f"{VERSION} and {VERSION_WITH_PARTS}; prepare the dataset again",
        )
    return manifest


def _stored_files(directory: Path) -> set[str]:
    """Names of the files a valid manifest in `directory` owns, so that they can be replaced.

    Only names that `save` gives: an edited manifest must not name what else lies there.
    """
    try:
        names = {str(entry["name"]) for entry in _manifest(directory)["files"].values()}
    except (DataError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in names if _OWN.fullmatch(name)}


def _write_parquet(table: Any, directory: Path, stem: str) -> dict[str, str]:
    """Writes `table` under a name made of its checksum; returns name and checksum."""
    import pyarrow.parquet as pq

    # The name is the content's, so it is not known before.
    temporary = directory / f".{stem}.{os.getpid()}.parquet"
    try:
        with naming(directory):
            pq.write_table(table, temporary, compression="zstd")
            digest = _sha256(temporary)
            name = f"{stem}-{digest[:12]}.parquet"
            os.replace(temporary, directory / name)
    finally:
        temporary.unlink(missing_ok=True)
    return {"name": name, "sha256": digest}


def _verified(directory: Path, entry: dict[str, str]) -> Path:
    path = directory / entry["name"]
    if not path.is_file():
        raise DataError(path, "the file is missing; prepare the dataset again")
    if _sha256(path) != entry["sha256"]:
        raise DataError(path, "the file is damaged (checksum differs); prepare the dataset again")
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
