"""Writes a token store shard by shard, so that a killed extraction can go on where it was.

Order of events: plan.json, the shards (any order), index.json, then plan.json is removed. Each file
appears whole or not at all, and none depends on when or in how many runs the others were written.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from torch import Tensor

from odmt_fast.features.index import (
    INDEX_FILE,
    PLAN_FILE,
    STATE_FILE,
    Index,
    Plan,
    Shard,
    StoreError,
    plan_from_json,
    plan_to_json,
)
from odmt_fast.features.shard import (
    file_sha256,
    map_shard,
    pack,
    shard_name,
    write_atomically,
    write_shard,
)
from odmt_fast.features.store import read_index


@dataclass(frozen=True)
class StoreWriter:
    """A store being written.

    Attributes:
        path: the folder.
        plan: what will be in it.
    """

    path: Path
    plan: Plan

    @classmethod
    def begin(cls, path: Path, plan: Plan) -> StoreWriter:
        """Starts a store at `path`, or goes on with one begun there with the same plan.

        Raises:
            StoreError: the folder holds a store, finished or not, with another plan.
        """
        path.mkdir(parents=True, exist_ok=True)
        begun = _plan_at(path)
        if begun is not None and (difference := begun.difference(plan)) is not None:
            raise StoreError(
                f"{path} holds another store: {difference}; choose another folder or overwrite it"
            )
        if begun is None:
            write_atomically(
                path / PLAN_FILE, lambda file: file.write_text(plan_to_json(plan), encoding="utf-8")
            )
        # An unfinished store goes on under the name it began with, so that it ends the same.
        return cls(path, plan if begun is None else begun)

    @property
    def finished(self) -> bool:
        """The index is there, so nothing is left to write."""
        return (self.path / INDEX_FILE).is_file()

    def pending(self) -> list[int]:
        """Numbers of the shards that are not there, or not whole."""
        return [number for number in range(len(self.plan.shards)) if not self._is_written(number)]

    def write(self, number: int, tokens: list[Tensor]) -> None:
        """Writes the tokens ([L, dim] each) of the items of a shard.

        Raises:
            ValueError: names the item whose features are not finite or have another width.
        """
        values, lengths = pack(tokens, self.plan, self.plan.shards[number])
        write_shard(self.path / shard_name(number), values, lengths, self.plan, number)

    def finish(self) -> None:
        """Writes the index once all shards are there, and clears what an interruption left."""
        if not self.finished:
            index = self._index()
            write_atomically(
                self.path / INDEX_FILE,
                lambda file: file.write_text(index.to_json(), encoding="utf-8"),
            )
        (self.path / PLAN_FILE).unlink(missing_ok=True)
        for leftover in self.path.glob("*.tmp"):
            leftover.unlink()

    def _is_written(self, number: int) -> bool:
        try:
            map_shard(self.path / shard_name(number), self.plan, number)
        except StoreError:
            return False
        return True

    def _index(self) -> Index:
        lengths: list[int] = []
        shards = []
        for number in range(len(self.plan.shards)):
            file = self.path / shard_name(number)
            values, of_items = map_shard(file, self.plan, number)
            lengths += of_items.tolist()
            shards.append(Shard(file.name, values.shape[0], file.stat().st_size, file_sha256(file)))
        return Index(self.plan, (0, *accumulate(lengths, initial=0)), tuple(shards))


def remove_store(path: Path) -> None:
    """Deletes the files of the store at `path`, finished or not, and nothing else."""
    for pattern in (INDEX_FILE, PLAN_FILE, STATE_FILE, "shard-*.safetensors", "*.tmp"):
        for file in path.glob(pattern):
            file.unlink()


def _plan_at(path: Path) -> Plan | None:
    if (path / INDEX_FILE).is_file():
        return read_index(path).plan
    if (path / PLAN_FILE).is_file():
        file = path / PLAN_FILE
        return plan_from_json(file.read_text(encoding="utf-8"), str(file))
    return None
