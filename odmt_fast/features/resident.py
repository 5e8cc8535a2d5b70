"""All tokens of a modality in the memory of a device, or of the host where a GPU can read it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import finalize

import torch
from torch import Tensor

from odmt_fast.features.tokens import TableRows, TokenSource, token_counts, token_rows

_CHUNK_ITEMS = 4096
"""Read at a time while a table is filled."""


@dataclass(frozen=True)
class ResidentTable:
    """Hands out rows instead of tokens: these are read where the model computes.

    Attributes:
        table: [n + 1, d_f] tokens of all items in order, then one of zero, for dummies.
        offsets: int64 [n_items + 2] on the CPU, as in `TokenTable`.
    """

    table: Tensor
    offsets: Tensor

    @classmethod
    def of(
        cls, source: TokenSource, device: torch.device, *, pinned: bool = False
    ) -> ResidentTable:
        """Reads all of `source`, once, in its own dtype.

        Args:
            source: of the tokens.
            device: where the table is wanted.
            pinned: in page-locked host memory instead, for `device` to read; needs CUDA.

        Raises:
            RuntimeError: the memory is not there.
        """
        items = torch.arange(1, source.n_items + 1)
        offsets = torch.zeros(source.n_items + 2, dtype=torch.int64)
        offsets[2:] = source.counts(items).cumsum(0)
        place = torch.device("cpu") if pinned else device
        table = torch.empty(int(offsets[-1]) + 1, source.dim, dtype=source.dtype, device=place)
        if pinned:
            _lock(table)
        for chunk in torch.split(items, _CHUNK_ITEMS):
            first, last = int(offsets[chunk[0]]), int(offsets[chunk[-1] + 1])
            table[first:last] = source.gather(chunk).values.to(place)
        table[-1] = 0
        return cls(table, offsets)

    @cached_property
    def max_length(self) -> int:
        """The most tokens an item has."""
        return int(self.offsets.diff().max())

    def counts(self, items: Tensor) -> Tensor:
        """int64 [U], how many tokens `items` have."""
        return token_counts(self.offsets, items)

    def gather(self, items: Tensor) -> TableRows:
        """Where the tokens of `items` lie (int64 [U] on the CPU, ids in 1..n_items)."""
        rows, lengths = token_rows(self.offsets, items)
        return TableRows(self.table, rows, lengths, self.max_length)


def source_bytes(source: TokenSource) -> int:
    """Bytes of all tokens of `source`; reads none of them."""
    tokens = int(source.counts(torch.arange(1, source.n_items + 1)).sum())
    return tokens * source.dim * source.dtype.itemsize


def _lock(table: Tensor) -> None:
    """Locks the pages of a tensor for its life; torch's own way would take up to twice of them."""
    runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = table.data_ptr()
    error = runtime.cudaHostRegister(address, table.nbytes, 0)
    if int(error) != 0:
        raise RuntimeError(
            f"{table.nbytes / 1e9:.1f} GB of host memory could not be page-locked (CUDA error "
            f"{int(error)}); train with --set features.residency=mmap"
        )
    finalize(table, runtime.cudaHostUnregister, address)
