"""The token store on disk: safetensors shards read through a memory map, and their index.

A store is a folder: ``index.json``, ``shard-00000.safetensors`` ... with ``values`` [P, d] and
``lengths`` int32 [n] of consecutive items, and ``encoder.safetensors`` where an encoder was fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from odmt_fast.features.index import (
    DTYPES,
    EXTRACT_AGAIN,
    INDEX_FILE,
    PLAN_FILE,
    Index,
    StoreError,
    first_difference,
    read_text,
)
from odmt_fast.features.shard import map_shard
from odmt_fast.features.tokens import PackedTokens, TokenTable, token_counts, token_rows
from odmt_fast.storage import Digest, file_digest

__all__ = ["StoreError", "TokenStore"]


@dataclass(frozen=True)
class TokenStore:
    """A finished store, opened; a `TokenSource` whose tokens stay on disk until gathered.

    Attributes:
        path: the folder.
        index: what it holds.
        offsets: int64 [n_items + 2], as in `TokenTable`; summed from the shards' lengths.
        shards: [P_s, d] each, views of the mapped files in item order.
    """

    path: Path
    index: Index
    offsets: Tensor
    shards: tuple[Tensor, ...]
    _whole: set[int] = field(default_factory=set, repr=False, compare=False)
    _checking: Lock = field(default_factory=Lock, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = False) -> TokenStore:
        """Maps the store at `path`.

        Always checked: the index agrees with itself, every shard is there, has the dtype, width
        and size the index says, tokens for each of its items, and carries the digest of this very
        index's plan. That reads the header and the lengths of every shard. The digest of a shard is
        compared when the first of its tokens is asked for (one read of the file, once a process),
        or of all shards here with `verify`.

        Raises:
            StoreError: says in one line what is wrong.
        """
        path = Path(path)
        index = read_index(path)
        shards, lengths = [], [torch.zeros(2, dtype=torch.int64)]
        for number, shard in enumerate(index.shards):
            file = path / shard.file
            if file.is_file() and (size := file.stat().st_size) != shard.bytes:
                raise StoreError(
                    f"{file} has {size} bytes, the index says {shard.bytes}; {EXTRACT_AGAIN}"
                )
            values, of_items = map_shard(file, index.plan, number)
            shards.append(values)
            lengths.append(of_items.long())
        store = cls(path, index, torch.cat(lengths).cumsum(0), tuple(shards))
        if verify:
            store.verify()
        return store

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Ids of the items; row i is dense item i + 1."""
        return self.index.plan.items

    @property
    def missing(self) -> tuple[int, ...]:
        """Dense ids of the items without this modality (one zero token each)."""
        return self.index.plan.missing

    @property
    def modality(self) -> str:
        """ "text" or "image"."""
        return self.index.plan.modality

    @property
    def encoder(self) -> dict[str, Any]:
        """Which encoder made the tokens (`EncoderIdentity.to_json`)."""
        return self.index.plan.encoder

    @property
    def dim(self) -> int:
        """Width of a token, d_f."""
        return self.index.plan.dim

    @property
    def n_items(self) -> int:
        """Items 1..n_items have tokens."""
        return len(self.item_ids)

    @property
    def dtype(self) -> torch.dtype:
        """What is stored and handed out."""
        return DTYPES[self.index.plan.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in self.index.shards)

    @cached_property
    def max_length(self) -> int:
        """The most tokens an item has."""
        return int(self.offsets.diff().max())

    @cached_property
    def digest(self) -> str:
        """Digest of everything that decides the tokens: the plan and the bytes of every shard."""
        digest = Digest().add(self.index.plan.digest)
        for shard in self.index.shards:
            digest.add(shard.digest)
        return digest.hex

    def verify(self) -> None:
        """Compares every shard with its digest.

        Raises:
            StoreError: names the first file that is damaged.
        """
        for number in range(len(self.shards)):
            self._verify(number)

    def check_items(self, item_ids: Sequence[str]) -> None:
        """Makes sure that the store describes these items in this order.

        Raises:
            StoreError: names the first difference.
        """
        difference = first_difference(self.item_ids, tuple(item_ids))
        if difference is not None:
            raise StoreError(
                f"{self.path} was made for another catalogue: {difference}; "
                "extract the features of this catalogue"
            )

    def counts(self, items: Tensor) -> Tensor:
        """int64 [U], how many tokens `items` have; reads no shard."""
        return token_counts(self.offsets, items)

    def gather(self, items: Tensor) -> PackedTokens:
        """Tokens of `items` (int64 [U] on the CPU, ids in 1..n_items), in that order.

        Only the rows asked for are read from the map.
        """
        rows, lengths = token_rows(self.offsets, items)
        if len(self.shards) == 1:
            self._verify(0)
            values = self.shards[0].index_select(0, rows)
        else:
            values = torch.empty(rows.shape[0], self.dim, dtype=self.dtype)
            shard_of_row = torch.bucketize(rows, self._shard_ends, right=True)
            for number in sorted(set(shard_of_row.tolist())):
                self._verify(number)
                chosen = (shard_of_row == number).nonzero()[:, 0]
                first = int(self._shard_ends[number]) - self.shards[number].shape[0]
                values[chosen] = self.shards[number].index_select(0, rows[chosen] - first)
        return PackedTokens(values, lengths, self.max_length)

    def table(self) -> TokenTable:
        """All tokens as one tensor: the mapped file itself for one shard, else a copy in memory."""
        self.verify()
        values = self.shards[0] if len(self.shards) == 1 else torch.cat(self.shards)
        return TokenTable(values, self.offsets)

    def _verify(self, number: int) -> None:
        if number in self._whole:
            return
        # One thread reads; the others wait for it rather than read the same file.
        with self._checking:
            if number in self._whole:
                return
            shard = self.index.shards[number]
            found = file_digest(self.path / shard.file)
            if found != shard.digest:
                raise StoreError(
                    f"{self.path / shard.file} is damaged: its digest is {found[:12]}.., the index "
                    f"says {shard.digest[:12]}..; {EXTRACT_AGAIN}"
                )
            self._whole.add(number)

    @cached_property
    def _shard_ends(self) -> Tensor:
        return torch.tensor([values.shape[0] for values in self.shards]).cumsum(0)


def read_index(path: Path) -> Index:
    """Reads the index of the store at `path`.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    file = path / INDEX_FILE
    if not file.is_file():
        if (path / PLAN_FILE).is_file():
            raise StoreError(
                f"{path} is unfinished (no {INDEX_FILE}); run the same extraction again to go on"
            )
        raise StoreError(f"{path} is not a token store: it has no {INDEX_FILE}")
    return Index.from_json(read_text(file), str(file))
