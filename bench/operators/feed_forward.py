"""The position-wise network d -> 4 d -> d with ReLU, against its formula in torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bench.operators.case import Setting, Variant, Work
from bench.operators.rows import RowsCase
from odmt_fast.kernels.feed_forward import feed_forward
from odmt_fast.kernels.feed_forward.reference import feed_forward_reference


def cases(setting: Setting) -> Iterator[RowsCase]:
    """The tokens of a batch."""
    yield FeedForward(setting)


@dataclass(frozen=True)
class FeedForward(RowsCase):
    """Weights in fp32."""

    operator = "feed_forward"

    @property
    def work(self) -> Work:
        """Six products; rows and activation read or written three times, weights as often."""
        rows, width = self.shape
        weights = 2 * width * 4 * width
        return Work(6.0 * rows * weights, 3 * (2 + 4) * self.tensor_bytes + 3 * 4 * weights)

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """x, up, its bias, down, its bias."""
        torch.manual_seed(0)
        width, master = self.shape[1], self.setting.master
        up, down = master(4 * width, width), master(width, 4 * width)
        return self.setting.randn(*self.shape), up, master(4 * width), down, master(width)

    def variants(self) -> Iterator[Variant]:
        """torch first."""
        yield from self.against_torch(_torch, feed_forward)


def _torch(x: Tensor, *masters: Tensor) -> Tensor:
    return feed_forward_reference(x, *(master.to(x.dtype) for master in masters))
