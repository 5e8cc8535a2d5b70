"""One call of the packed_attention kernels, as its launches pass it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from odmt_fast.kernels.dropout.reference import kept_scale, threshold, with_first
from odmt_fast.kernels.launch.device import dot_precision
from odmt_fast.kernels.packed_attention.configs import Tile


@dataclass(frozen=True)
class Problem:
    """The arguments of `op.packed_attention`; q, k, v [P, H, D]."""

    q: Tensor
    k: Tensor
    v: Tensor
    cu_seqlens: Tensor
    seed: Tensor | None
    max_seqlen: int
    mask: str
    scale: float
    p: float
    groups: int

    @property
    def segments(self) -> int:
        """Their number."""
        return self.cu_seqlens.shape[0] - 1

    @property
    def empty(self) -> bool:
        """Whether there is nothing to compute."""
        return self.q.numel() == 0 or self.max_seqlen == 0

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """The first arguments of every kernel."""
        return self.q, self.k, self.v, self.cu_seqlens.contiguous(), with_first(self.seed)

    @property
    def strides(self) -> tuple[int, ...]:
        """Of q, k, v: token, head."""
        return *self.q.stride()[:2], *self.k.stride()[:2], *self.v.stride()[:2]

    @property
    def scalars(self) -> tuple[int | float, ...]:
        """The last arguments of every kernel that are no constants."""
        group_tokens = self.q.shape[0] // self.groups
        return self.segments, self.scale, threshold(self.p), kept_scale(self.p), group_tokens

    def constants(self, tile: Tile, segments: int) -> dict[str, Any]:
        """What the kernels are compiled for, with `segments` of them in a tile."""
        _, heads, d = self.q.shape
        padded_d = max(16, 1 << (d - 1).bit_length())
        # A head no wider than a chunk is written in two: beside a whole one the tiles would spill.
        block_o = tile.block_o if tile.block_o < padded_d else max(16, padded_d // 2)
        return {
            "H": heads,
            "D": d,
            "MASK": self.mask,
            "DROPOUT": self.p > 0.0,
            "SEGMENTS": segments,
            "BLOCK_S": 1 << segments.bit_length(),
            "BLOCK_M": tile.block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_D": min(tile.block_d, padded_d),
            "BLOCK_O": block_o,
            "PRECISION": "ieee" if tile.fma else dot_precision(self.q),
            "num_warps": tile.num_warps,
            "num_stages": tile.num_stages,
        }

    def key(self, kernel: str, block_n: int) -> str:
        """The shape bucket that a search for tiles saves its result for."""
        return f"{kernel} {self.q.dtype} L<={block_n} D={self.q.shape[-1]} {self.mask} {self.p > 0}"
