"""Ragged token features of the items: what the model reads, wherever they are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from odmt_fast.kernels.table_rows import table_rows


@dataclass(frozen=True)
class PackedTokens:
    """Tokens of some items, one item after the other, without padding.

    Attributes:
        values: [P, d_f], in the dtype of the source.
        lengths: int64 [U], tokens of each item, at least 1; sums to P.
        max_length: an upper bound of `lengths`, known without looking at a device.
    """

    values: Tensor
    lengths: Tensor
    max_length: int

    def map(self, function: Callable[[Tensor], Tensor]) -> PackedTokens:
        """The same tokens with both tensors replaced."""
        return PackedTokens(function(self.values), function(self.lengths), self.max_length)

    def to(self, device: torch.device | str) -> PackedTokens:
        """The same tokens on `device`."""
        return self.map(lambda x: x.to(device))

    def gathered(self) -> PackedTokens:
        """Themselves; see `TableRows.gathered`."""
        return self

    @property
    def count(self) -> int:
        """P."""
        return self.values.shape[0]

    @property
    def dim(self) -> int:
        """Width of a token, d_f."""
        return self.values.shape[1]

    def padded(self, lengths: Sequence[int]) -> PackedTokens:
        """The same tokens, then further items with `lengths` tokens of zero."""
        zeros = self.values.new_zeros(sum(lengths), self.values.shape[1])
        return PackedTokens(
            torch.cat([self.values, zeros]), _extended(self.lengths, lengths), self.max_length
        )

    def split(self, items: int) -> tuple[PackedTokens, ...]:
        """Views of `items` consecutive items each, the last one of fewer; reads the lengths."""
        lengths = torch.split(self.lengths, items)
        values = torch.split(self.values, [int(part.sum()) for part in lengths])
        return tuple(
            PackedTokens(tokens, part, self.max_length)
            for tokens, part in zip(values, lengths, strict=True)
        )


@dataclass(frozen=True)
class TableRows:
    """Tokens of some items as rows of a table that stays where it is; `gathered` fetches them.

    Attributes:
        table: [n + 1, d_f] tokens of all items, then one of zero; see `kernels.table_rows` for
            where it may lie.
        rows: int64 [P], rows of the tokens, item after item.
        lengths: int64 [U], as in `PackedTokens`.
        max_length: as there.
    """

    table: Tensor
    rows: Tensor
    lengths: Tensor
    max_length: int

    def map(self, function: Callable[[Tensor], Tensor]) -> TableRows:
        """The same tokens with rows and lengths replaced."""
        return replace(self, rows=function(self.rows), lengths=function(self.lengths))

    def to(self, device: torch.device | str) -> TableRows:
        """The same rows on `device`."""
        return self.map(lambda x: x.to(device))

    def gathered(self) -> PackedTokens:
        """The tokens, where the rows are."""
        return PackedTokens(table_rows(self.table, self.rows), self.lengths, self.max_length)

    @property
    def count(self) -> int:
        """P."""
        return self.rows.shape[0]

    @property
    def dim(self) -> int:
        """Width of a token, d_f."""
        return self.table.shape[1]

    def padded(self, lengths: Sequence[int]) -> TableRows:
        """The same tokens, then further items with `lengths` tokens of zero."""
        zero = len(self.table) - 1
        return replace(
            self,
            rows=_extended(self.rows, [zero] * sum(lengths)),
            lengths=_extended(self.lengths, lengths),
        )


def _extended(array: Tensor, values: Sequence[int]) -> Tensor:
    return torch.cat([array, torch.tensor(values, dtype=array.dtype)])


Tokens = PackedTokens | TableRows
"""What a batch carries of a modality."""


def token_counts(offsets: Tensor, items: Tensor) -> Tensor:
    """int64 [U], how many tokens `items` have; arguments of `token_rows`."""
    return offsets[items + 1] - offsets[items]


def token_rows(offsets: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Where the tokens of `items` lie, item after item.

    Args:
        offsets: int64 [n_items + 2], as in `TokenTable`.
        items: int64 [U], ids in 1..n_items, any order, repeats allowed.

    Returns:
        (rows int64 [P] of the token table, lengths int64 [U]).
    """
    starts, lengths = offsets[items], token_counts(offsets, items)
    # Token p of item u lies at starts[u] + (p - first packed position of u).
    shift = torch.repeat_interleave(starts - (lengths.cumsum(0) - lengths), lengths)
    return torch.arange(shift.shape[0], device=shift.device) + shift, lengths


class BatchSource(Protocol):
    """What a batch gets its tokens from: a `TokenSource`, or a `ResidentTable`."""

    @property
    def max_length(self) -> int:
        """The most tokens an item has."""

    def counts(self, items: Tensor) -> Tensor:
        """int64 [U], how many tokens `items` have."""

    def gather(self, items: Tensor) -> Tokens:
        """Of `items` (int64 [U], ids in 1..n_items), in that order."""


class TokenSource(Protocol):
    """Anything that can hand out the tokens of items: a table in memory, a store on disk."""

    @property
    def dim(self) -> int:
        """Width of a token, d_f."""

    @property
    def n_items(self) -> int:
        """Items 1..n_items have tokens."""

    @property
    def max_length(self) -> int:
        """The most tokens an item has."""

    @property
    def dtype(self) -> torch.dtype:
        """What `gather` hands out."""

    def counts(self, items: Tensor) -> Tensor:
        """int64 [U], how many tokens `items` have; reads none of them."""

    def gather(self, items: Tensor) -> PackedTokens:
        """Tokens of `items` (int64 [U], ids in 1..n_items), in that order."""


@dataclass(frozen=True)
class TokenTable:
    """All tokens of a modality in one tensor (in memory, memory-mapped, or on a GPU).

    Attributes:
        values: [P_total, d_f] tokens, items in order.
        offsets: int64 [n_items + 2]; item i owns ``values[offsets[i]:offsets[i + 1]]``, the padding
            item 0 owns nothing, every other item at least one token (a missing modality is one
            zero token).
    """

    values: Tensor
    offsets: Tensor

    @property
    def dim(self) -> int:
        """Width of a token, d_f."""
        return self.values.shape[1]

    @property
    def n_items(self) -> int:
        """Items 1..n_items have tokens."""
        return self.offsets.shape[0] - 2

    @property
    def dtype(self) -> torch.dtype:
        """What `gather` hands out."""
        return self.values.dtype

    @cached_property
    def max_length(self) -> int:
        """The most tokens an item has."""
        return int(self.offsets.diff().max())

    def counts(self, items: Tensor) -> Tensor:
        """int64 [U], how many tokens `items` have."""
        return token_counts(self.offsets, items)

    def gather(self, items: Tensor) -> PackedTokens:
        """Tokens of `items` (int64 [U], ids in 1..n_items), in that order."""
        rows, lengths = token_rows(self.offsets, items)
        return PackedTokens(self.values.index_select(0, rows), lengths, self.max_length)

    def to(self, device: torch.device | str) -> TokenTable:
        """The same table on `device`."""
        return TokenTable(self.values.to(device), self.offsets.to(device))

    @classmethod
    def from_padded(cls, features: Tensor, mask: Tensor | None = None) -> TokenTable:
        """Packs the official layout.

        Args:
            features: [n_items + 1, T, d_f]; row 0 (padding) is dropped.
            mask: [n_items + 1, T], nonzero at real tokens; None keeps all T.

        Raises:
            ValueError: the shapes do not match, or an item has no token at all.
        """
        if features.dim() != 3:
            raise ValueError(f"features must be [n_items + 1, T, d], got {tuple(features.shape)}")
        if mask is None:
            mask = features.new_ones(features.shape[:2])
        if mask.shape != features.shape[:2]:
            raise ValueError(
                f"mask must be {tuple(features.shape[:2])} like features, got {tuple(mask.shape)}"
            )
        keep = mask.bool().clone()
        keep[0] = False
        lengths = keep.sum(1)
        if bool((lengths[1:] == 0).any()):
            item = int((lengths[1:] == 0).nonzero()[0]) + 1
            raise ValueError(
                f"mask has no token for item {item}; give a missing modality one zero token"
            )
        offsets = torch.zeros(features.shape[0] + 1, dtype=torch.int64, device=features.device)
        offsets[1:] = lengths.cumsum(0)
        return cls(features[keep], offsets)


def first_tokens(source: TokenSource) -> Tensor:
    """[n_items + 1, d_f] first token of every item; row 0 (padding) is 0."""
    tokens = source.gather(torch.arange(1, source.n_items + 1))
    starts = tokens.lengths.cumsum(0) - tokens.lengths
    return torch.nn.functional.pad(tokens.values[starts], (0, 0, 1, 0))


def device_of(source: BatchSource) -> torch.device:
    """Where a source wants the ids it gathers: beside its values, else (a store) on the CPU."""
    values = getattr(source, "values", None)
    return values.device if isinstance(values, Tensor) else torch.device("cpu")
