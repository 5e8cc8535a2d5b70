"""Tensors and JSON values in one safetensors file that knows its own digest."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from odmt_fast.storage.atomic import StorageError, write_atomically
from odmt_fast.storage.digest import Digest

_METADATA = "odmt_fast"


class DamagedFileError(ValueError):
    """A file is not what was written; the message names it."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes `tensors` and the JSON values of `header` to `path`, atomically and durably.

    Raises:
        StorageError: the file cannot be written.
    """
    stored = _independent(tensors)
    values = json.dumps(header)
    # One metadata entry: safetensors writes several in an order that changes between runs.
    entry = json.dumps({"header": values, "digest": _digest(stored, values)})

    def write(part: Path) -> None:
        try:
            save_file(stored, part, metadata={_METADATA: entry})
        except SafetensorError as error:  # wraps the system's error as text
            raise StorageError(f"{path} cannot be written: {error}") from error

    write_atomically(path, write)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU, in memory of their own) and the header of a file of `save_tensors`.

    Raises:
        DamagedFileError: a bit of it is not as it was written, or `save_tensors` did not write it.
        FileNotFoundError: there is no such file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        if _METADATA not in metadata:
            raise DamagedFileError(f"{path} was not written by odmt_fast, or its header is damaged")
        entry = json.loads(metadata[_METADATA])
        digest, values = entry["digest"], entry["header"]
    except RuntimeError as error:  # torch opens it once more, and it was removed in between
        if path.exists():
            raise
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, DamagedFileError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DamagedFileError(f"{path} is damaged: {reason}") from error
    if _digest(tensors, values) != digest:
        raise DamagedFileError(f"{path} is damaged: its digest is not that of what was written")
    header: dict[str, Any] = json.loads(values)
    return tensors, header


def _digest(tensors: Mapping[str, Tensor], values: str) -> str:
    digest = Digest().add(values)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.add(f"{name} {tensor.dtype} {list(tensor.shape)}")
        digest.add(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hex


def _independent(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU copies where needed: the format refuses tensors that share memory."""
    independent: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        independent[name] = tensor
    return independent
