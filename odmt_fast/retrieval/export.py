"""Files for other systems: vectors with the names of their rows beside them, lists as Parquet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from odmt_fast.storage import (
    DamagedFileError,
    Digest,
    load_tensors,
    save_tensors,
    write_atomically,
)


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
    vectors, names = _files(directory, name)
    text = json.dumps(list(ids), ensure_ascii=False)
    # The names first: vectors that lie there have names that fit, or are refused for it.
    write_atomically(names, lambda part: part.write_text(text, encoding="utf-8"))
    header = {"ids": Digest().add(text).hex}
    save_tensors(vectors, {"vectors": values.detach().to("cpu", torch.float32)}, header)
    return vectors


def load_vectors(directory: Path, name: str) -> Vectors:
    """Reads what `export_vectors` wrote.

    Raises:
        DamagedFileError: a file is damaged, or the names belong to other vectors.
    """
    vectors, names = _files(directory, name)
    tensors, header = load_tensors(vectors)
    text = names.read_bytes().decode("utf-8", "surrogateescape")
    if Digest().add(text).hex != header.get("ids"):
        raise DamagedFileError(f"{names} is damaged or belongs to other vectors; export again")
    return Vectors(tensors["vectors"], tuple(json.loads(text)))


def write_lists(path: Path, table: Any) -> None:
    """Writes what `Recommender.recommend_all` returned as a Parquet file, atomically."""
    import pyarrow.parquet as pq

    write_atomically(path, lambda part: pq.write_table(table, part, compression="zstd"))


def _files(directory: Path, name: str) -> tuple[Path, Path]:
    return directory / f"{name}.safetensors", directory / f"{name}.json"
