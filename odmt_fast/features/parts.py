"""The items of an unfinished shard, kept on disk as they are encoded.

``.part-<shard>-<part>.safetensors`` holds the tokens of some items. The parts of a shard are
numbered from 0, hold different items, and are removed once the shard is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from odmt_fast.features.index import Plan
from odmt_fast.features.shard import pack
from odmt_fast.storage import DamagedFileError, load_tensors, remove_unfinished, save_tensors

_NAME = re.compile(r"\.part-\d{5}-\d{5}\.safetensors")


@dataclass
class ShardParts:
    """What is encoded of a shard; `add` makes it last.

    Attributes:
        folder: of the store.
        plan: of the store.
        number: of the shard.
        tokens: row -> [L, dim] in the store's dtype, of every part there is.
        count: parts there are.
    """

    folder: Path
    plan: Plan
    number: int
    tokens: dict[int, Tensor] = field(default_factory=dict)
    count: int = 0

    @classmethod
    def open(cls, folder: Path, plan: Plan, number: int) -> ShardParts:
        """Reads the parts an earlier session left, up to the first that is missing or damaged.

        Those after it are removed: what they hold will be encoded in other parts.
        """
        found = cls(folder, plan, number)
        while found._read():
            found.count += 1
        for file in part_files(folder, number)[found.count :]:
            file.unlink()
        remove_unfinished(found._file())
        return found

    def add(self, tokens: Mapping[int, Tensor]) -> None:
        """Writes a part with `tokens`: row -> float32 [L, dim].

        Raises:
            ValueError: names the item whose features are not finite or have another width.
            StorageError: it cannot be written.
        """
        rows = list(tokens)
        values, lengths = pack(list(tokens.values()), self.plan, rows)
        stored = {"values": values, "lengths": lengths, "rows": torch.tensor(rows)}
        save_tensors(self._file(), stored, self._header())
        self._take(stored)
        self.count += 1

    def _read(self) -> bool:
        try:
            tensors, header = load_tensors(self._file())
        except (FileNotFoundError, DamagedFileError):
            return False
        if header != self._header():
            return False
        self._take(tensors)
        return True

    def _take(self, stored: Mapping[str, Tensor]) -> None:
        states = torch.split(stored["values"], stored["lengths"].tolist())
        self.tokens.update(zip(stored["rows"].tolist(), states, strict=True))

    def _file(self) -> Path:
        """Of the part that comes next."""
        return self.folder / f".part-{self.number:05d}-{self.count:05d}.safetensors"

    def _header(self) -> dict[str, str | int]:
        return {"plan": self.plan.digest, "shard": self.number, "part": self.count}


def part_files(folder: Path, number: int | None = None) -> list[Path]:
    """The files of the parts in `folder`: of shard `number`, or of all shards."""
    shard = "*" if number is None else f"{number:05d}"
    return [
        file
        for file in sorted(folder.glob(f".part-{shard}-*.safetensors"))
        if _NAME.fullmatch(file.name)
    ]
