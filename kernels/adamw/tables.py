"""What the kernels read instead of arguments: tables of addresses, sizes and settings.

A model has a hundred tensors of any size. The kernels find them by their addresses, so that
weights, gradients and moments stay where torch put them: gradients need not be added into a
buffer (which would read and write them once more), and checkpoints and DDP see plain tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Entry(NamedTuple):
    """A tensor in training and what belongs to it, all of its shape and contiguous.

    Attributes:
        weight: float32 (the reference: any floating dtype), updated in place.
        gradient: like weight; None leaves the tensor out of this step.
        exp_avg: like weight, updated in place; mean of the gradients.
        exp_avg_sq: like weight, updated in place; mean of their squares.
        group: row of the settings.
        copy: bfloat16 or float16, overwritten by the new weight; None where nobody reads one.
    """

    weight: Tensor
    gradient: Tensor | None
    exp_avg: Tensor
    exp_avg_sq: Tensor
    group: int
    copy: Tensor | None


@dataclass(frozen=True)
class Layout:
    """Where the P tensors lie in C chunks of elements.

    Attributes:
        sizes: int64 [3, P]: elements, first chunk, row of the settings.
        owner: int32 [C], the tensor of each chunk.
    """

    sizes: Tensor
    owner: Tensor

    @staticmethod
    def of(
        elements: Sequence[int], groups: Sequence[int], block: int, device: torch.device
    ) -> Layout:
        """Cuts tensors of so many elements into chunks of at most `block`, none of two tensors."""
        counts = torch.tensor([-(-n // block) for n in elements])
        firsts = counts.cumsum(0) - counts
        sizes = torch.stack([torch.tensor(elements), firsts, torch.tensor(groups)])
        owner = torch.arange(len(elements), dtype=torch.int32).repeat_interleave(counts)
        return Layout(sizes.to(device), owner.to(device))


class Resident:
    """Numbers of the host on a device, copied only when they change, and without a wait."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._values: tuple[tuple[float, ...], ...] = ()
        self._there: Tensor | None = None
        self._captured: list[Tensor] = []

    def of(self, values: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
        """`values` as a tensor of their shape; the last one, if they and the device are those."""
        if self._there is None or values != self._values or self._there.device != device:
            host = torch.tensor(values, dtype=self._dtype)
            if device.type == "cuda":
                # The allocator of page-locked memory keeps it until the copy was made; a graph
                # makes the copy at every replay.
                host = host.pin_memory()
                if torch.cuda.is_current_stream_capturing():
                    self._captured.append(host)
            self._values, self._there = values, host.to(device, non_blocking=True)
        return self._there


class Tables:
    """The tables of one optimiser, kept from step to step."""

    def __init__(self) -> None:
        self._addresses = Resident(torch.int64)
        self._layout: tuple[object, Layout] | None = None

    def addresses(self, entries: Sequence[Entry]) -> tuple[Tensor, bool]:
        """int64 [5, P] of weight, gradient, exp_avg, exp_avg_sq, copy (0: none); all by 16?"""
        columns = [(e.weight, e.gradient, e.exp_avg, e.exp_avg_sq, e.copy) for e in entries]
        values = tuple(
            # An empty tensor has no address, but it is there.
            tuple(0 if t is None else t.data_ptr() or 16 for t in row)
            for row in zip(*columns, strict=True)
        )
        aligned = all(address % 16 == 0 for row in values for address in row)
        return self._addresses.of(values, entries[0].weight.device), aligned

    def layout(self, entries: Sequence[Entry], block: int) -> Layout:
        """Where the tensors lie in chunks of `block` elements."""
        elements = tuple(entry.weight.numel() for entry in entries)
        groups = tuple(entry.group for entry in entries)
        key = elements, groups, block, entries[0].weight.device
        if self._layout is None or self._layout[0] != key:
            self._layout = key, Layout.of(*key)
        return self._layout[1]
