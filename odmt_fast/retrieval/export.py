"""Vectors for other systems: one safetensors file and the names of its rows beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class Vectors:
    """Named vectors; the inner product of a user's and an item's is the ensemble's score.

    Attributes:
        values: float32 [n, D].
        ids: the names of the rows, as in the source.
    """

    values: Tensor
    ids: tuple[str, ...]


def export_vectors(directory: Path, name: str, values: Tensor, ids: Sequence[str]) -> Path:
    """Writes ``<name>.safetensors`` (tensor "vectors", float32 [n, D]) and ``<name>.json``.

    Args:
        directory: made where absent.
        name: "items" or "users", say.
        values: [n, D].
        ids: n names.

    Returns:
        The safetensors file.

    Raises:
        ValueError: the two differ in length.
    """
    if values.shape[0] != len(ids):
        raise ValueError(f"ids has {len(ids)} names for {values.shape[0]} vectors")
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"{name}.safetensors"
    parts = {path: path.with_suffix(path.suffix + ".part") for path in _files(directory, name)}
    vectors, names = parts.values()
    save_file({"vectors": values.detach().to("cpu", torch.float32).contiguous()}, vectors)
    names.write_text(json.dumps(list(ids), ensure_ascii=False), encoding="utf-8")
    for path, part in parts.items():
        os.replace(part, path)
    return target


def load_vectors(directory: Path, name: str) -> Vectors:
    """Reads what `export_vectors` wrote."""
    vectors, names = _files(directory, name)
    return Vectors(load_file(vectors)["vectors"], tuple(json.loads(names.read_text("utf-8"))))


def _files(directory: Path, name: str) -> tuple[Path, Path]:
    return directory / f"{name}.safetensors", directory / f"{name}.json"
