"""What a block is called with: its weights, its shape, its dropout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from odmt_fast.kernels.linear.copies import cast


class Weights(NamedTuple):
    """Master weights of any floating dtype; with G groups all have a first dimension G.

    Attributes:
        qkv: [3 d, d], Q above K above V, heads one after the other.
        out: [d, d].
        attention_norm, attention_norm_bias: [d], of the norm behind the attention.
        up, up_bias, down, down_bias: [4 d, d], [4 d], [d, 4 d], [d].
        norm, norm_bias: [d], of the norm behind the feed-forward network.
    """

    qkv: Tensor
    out: Tensor
    attention_norm: Tensor
    attention_norm_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor
    norm: Tensor
    norm_bias: Tensor

    def narrow(self, dtype: torch.dtype) -> Weights:
        """Those of the linear maps in `dtype`; the norms read their masters."""
        return Weights(
            *(
                weight if "norm" in name else cast(weight, dtype)
                for name, weight in zip(self._fields, self, strict=True)
            )
        )


@dataclass(frozen=True)
class Shape:
    """All that is no tensor.

    Attributes:
        heads: H; the head size is d / H.
        max_seqlen: upper bound of the segment lengths.
        mask: of `packed_attention`, or of `readout_attention`.
        eps: of the norms.
        groups: G, equal consecutive parts of the rows with weights of their own.
        dropout: probabilities of the three sites: attention, behind O, behind the network.
        float8: whether the products of Q, K, V (not of a readout), O and the network round their
            operands to float8; of one group.
    """

    heads: int
    max_seqlen: int
    mask: str
    eps: float
    groups: int = 1
    dropout: tuple[float, float, float] = (0.0, 0.0, 0.0)
    float8: bool = False

    def scale(self, width: int) -> float:
        """Of the scores."""
        return 1 / math.sqrt(width // self.heads)


Seeds = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of the three sites, see `kernels.dropout`; None where nothing is dropped."""
