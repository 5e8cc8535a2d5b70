"""LN(residual + dropout(x)) against torch, eager and compiled: bound by copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.operators.case import Setting, Variant, Work
from bench.operators.rows import RowsCase
from odmt_fast.kernels.residual_norm import residual_norm

EPS = 1e-6


def cases(setting: Setting) -> Iterator[RowsCase]:
    """The tokens of a batch, without dropout and with it."""
    for p in (0.0, 0.1):
        yield ResidualNorm(setting, p)


@dataclass(frozen=True)
class ResidualNorm(RowsCase):
    """Random rows, parameters in fp32."""

    operator = "residual_norm"

    @property
    def work(self) -> Work:
        """No products; the backward reads the sum or x and the residual, and the gradient."""
        return Work(0.0, (8 if self.dropout else 7) * self.tensor_bytes)

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """x, residual, weight, bias."""
        torch.manual_seed(0)
        parameters = (torch.randn(self.shape[1], device=self.setting.device) for _ in range(2))
        return (self.setting.randn(*self.shape), self.setting.randn(*self.shape), *parameters)

    def variants(self) -> Iterator[Variant]:
        """torch first."""
        yield from self.against_torch(self._torch, self._ours)
        if self.setting.dtype != torch.float32:
            yield Variant("torch, eager, parameters in 16 bits", partial(self.run, self._narrow))

    def _torch(self, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        total = (residual + F.dropout(x, self.dropout)).float()
        return F.layer_norm(total, total.shape[1:], weight, bias, EPS).to(x.dtype)

    def _narrow(self, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        total = residual + F.dropout(x, self.dropout)
        return F.layer_norm(total, total.shape[1:], weight.to(x.dtype), bias.to(x.dtype), EPS)

    def _ours(self, *tensors: Tensor) -> Tensor:
        seed = self.seed if self.dropout else None
        return residual_norm(*tensors, eps=EPS, dropout=self.dropout, seed=seed)
