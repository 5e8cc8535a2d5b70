"""One call of the readout_attention kernels, as both launches pass it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from odmt_fast.kernels.dropout.reference import kept_scale, threshold, with_first
from odmt_fast.kernels.launch.device import dot_precision
from odmt_fast.kernels.readout_attention.configs import Tile, padded_rows


@dataclass(frozen=True)
class Problem:
    """The arguments of `op.readout_attention`; queries [U, R, H, d] contiguous, hidden [P, d]."""

    queries: Tensor
    hidden: Tensor
    cu_seqlens: Tensor
    seed: Tensor | None
    max_seqlen: int
    mask: str
    scale: float
    p: float

    @property
    def rows(self) -> int:
        """Of a segment."""
        return self.queries.shape[1] * self.queries.shape[2]

    @property
    def block_r(self) -> int:
        """Rows of the tile."""
        return padded_rows(self.rows)

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """The first arguments of both kernels."""
        return self.queries, self.hidden, self.cu_seqlens.contiguous(), with_first(self.seed)

    @property
    def scalars(self) -> tuple[int | float, ...]:
        """The last arguments of both kernels that are no constants."""
        return self.hidden.stride(0), self.scale, threshold(self.p), kept_scale(self.p)

    def constants(self, tile: Tile) -> dict[str, Any]:
        """What the kernels are compiled for."""
        _, _, heads, d = self.queries.shape
        return {
            "ROWS": self.rows,
            "H": heads,
            "D": d,
            "MASK": self.mask,
            "DROPOUT": self.p > 0.0,
            "BLOCK_R": self.block_r,
            "BLOCK_N": tile.block_n,
            "BLOCK_D": min(tile.block_d, max(16, 1 << (d - 1).bit_length())),
            "PRECISION": "ieee" if tile.fma else dot_precision(self.queries),
            "num_warps": tile.num_warps,
            "num_stages": tile.num_stages,
        }

    def key(self, kernel: str, block_n: int) -> str:
        """The shape bucket that a search for tiles saves its result for."""
        return f"{kernel} {self.queries.dtype} L<={block_n} {self.mask} {self.p > 0}"
