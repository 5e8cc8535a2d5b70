"""Writes a token store shard by shard, so that a killed extraction can go on where it was.

Order of events: plan.json, the shards (any order; each after its parts, see `ShardParts`),
index.json, then plan.json is removed. Each file appears whole or not at all, and none but the parts
depends on when or in how many runs the others were written.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from odmt_fast.features.index import (
    INDEX_FILE,
    PLAN_FILE,
    STATE_FILE,
    Index,
    OtherStoreError,
    Plan,
    Shard,
    StoreError,
    plan_from_json,
    plan_to_json,
    read_text,
)
from odmt_fast.features.parts import ShardParts, part_files
from odmt_fast.features.shard import (
    map_shard,
    pack,
    shard_name,
    write_shard,
)
from odmt_fast.features.store import read_index
from odmt_fast.storage import file_digest, remove_unfinished, write_atomically


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
            OtherStoreError: the folder holds a store, finished or not, with another plan.
        """
        path.mkdir(parents=True, exist_ok=True)
        begun = _plan_at(path)
        if begun is not None and (difference := begun.difference(plan)) is not None:
            raise OtherStoreError(path, difference)
        if begun is None:
            write_atomically(
                path / PLAN_FILE, lambda file: file.write_text(plan_to_json(plan), encoding="utf-8")
            )
        for name in (PLAN_FILE, STATE_FILE, INDEX_FILE, *map(shard_name, range(len(plan.shards)))):
            remove_unfinished(path / name)
        # An unfinished store goes on under the name it began with, so that it ends the same.
        return cls(path, plan if begun is None else begun)

    @classmethod
    def begun(cls, path: Path) -> StoreWriter:
        """The store that another process began at `path`, to write shards of.

        Raises:
            StoreError: there is none.
        """
        plan = _plan_at(path)
        if plan is None:
            raise StoreError(f"{path} holds no store that was begun; extract into it")
        return cls(path, plan)

    @property
    def finished(self) -> bool:
        """The index is there, so nothing is left to write."""
        return (self.path / INDEX_FILE).is_file()

    def pending(self) -> list[int]:
        """Numbers of the shards that are not there, or not whole."""
        return [number for number in range(len(self.plan.shards)) if not self._is_written(number)]

    def parts(self, number: int) -> ShardParts:
        """What is encoded of a shard that is pending."""
        return ShardParts.open(self.path, self.plan, number)

    def write(self, number: int, tokens: list[Tensor]) -> None:
        """Writes the tokens ([L, dim] each) of the items of a shard, in the place of its parts.

        Raises:
            ValueError: names the item whose features are not finite or have another width.
        """
        values, lengths = pack(tokens, self.plan, self.plan.shards[number])
        write_shard(self.path / shard_name(number), values, lengths, self.plan, number)
        for file in part_files(self.path, number):
            file.unlink()

    def finish(self) -> None:
        """Writes the index once all shards are there, and clears what an interruption left."""
        if not self.finished:
            index = self._index()
            write_atomically(
                self.path / INDEX_FILE,
                lambda file: file.write_text(index.to_json(), encoding="utf-8"),
            )
        for file in part_files(self.path):
            file.unlink()
        (self.path / PLAN_FILE).unlink(missing_ok=True)

    def _is_written(self, number: int) -> bool:
        try:
            map_shard(self.path / shard_name(number), self.plan, number)
        except StoreError:
            return False
        return True

    def _index(self) -> Index:
        shards = []
        for number in range(len(self.plan.shards)):
            file = self.path / shard_name(number)
            map_shard(file, self.plan, number)
            shards.append(Shard(file.name, file.stat().st_size, file_digest(file)))
        return Index(self.plan, tuple(shards))


def store_files(path: Path) -> list[Path]:
    """The files of the store at `path`, finished or not, that its index or plan names."""
    names: set[str] = set()
    for file in (path / INDEX_FILE, path / PLAN_FILE):
        if not file.is_file():
            continue
        names.add(file.name)
        try:
            plan = _plan_at(path)
        except StoreError:  # damaged, or of another version: its shards are not known
            continue
        if plan is not None:
            names |= {shard_name(number) for number in range(len(plan.shards))}
            names |= {STATE_FILE} if plan.modality == "image" else set()
    names |= {file.name for file in part_files(path)}
    return [path / name for name in sorted(names) if (path / name).is_file()]


def remove_store(path: Path) -> None:
    """Deletes the files of the store at `path`, finished or not, and nothing else."""
    for file in store_files(path):
        file.unlink()


def replace_store(new: Path, path: Path) -> None:
    """Moves the finished store in `new` over the one in `path`; interrupted, call it again.

    The index moves last: until then a reader finds the old store or a named error.
    """
    moved = [file for file in store_files(new) if file.name != INDEX_FILE]
    kept = {file.name for file in (*moved, new / INDEX_FILE)}
    for file in store_files(path):
        if file.name not in kept:
            file.unlink()
    for file in (*moved, new / INDEX_FILE):
        os.replace(file, path / file.name)
    shutil.rmtree(new)


def _plan_at(path: Path) -> Plan | None:
    if (path / INDEX_FILE).is_file():
        return read_index(path).plan
    if (path / PLAN_FILE).is_file():
        file = path / PLAN_FILE
        return plan_from_json(read_text(file), str(file))
    return None
