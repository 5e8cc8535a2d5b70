"""item_tokens on a GPU: the products write one buffer, one kernel brings its rows side by side."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.item_tokens.fwd import item_layout, item_rows
from odmt_fast.kernels.item_tokens.reference import Packed, Tensors
from odmt_fast.kernels.linear.copies import cast
from odmt_fast.kernels.linear.products import bias_gradient, input_gradient, weight_gradient


def item_tokens_gpu(
    values: Tensors,
    lengths: Tensors,
    weights: Tensors,
    biases: Tensors,
    p: float,
    seed: Tensor | None,
) -> Packed:
    """`op.item_tokens`, of at least one item."""
    cu_seqlens, readouts, sources = item_layout(lengths, sum(len(value) for value in values))
    x: Tensor = _Mapped.apply(p, seed, sources, *values, *weights, *biases)  # type: ignore[no-untyped-call]
    return Packed(x, cu_seqlens, readouts)


class _Mapped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, p: float, seed: Tensor | None, sources: Tensor, *rest: Tensor) -> Tensor:
        values, masters, biases = _thirds(rest)
        dtype = values[0].dtype
        weights = tuple(cast(master, dtype) for master in masters)
        mapped = values[0].new_empty(len(sources), weights[0].shape[0])
        parts = mapped.split([len(value) for value in values])
        for part, value, weight, bias in zip(parts, values, weights, biases, strict=True):
            torch.addmm(cast(bias, dtype), value, weight.t(), out=part)
        ctx.save_for_backward(seed, sources, *values, *weights)
        ctx.p, ctx.dtypes = p, [master.dtype for master in (*masters, *biases)]
        return item_rows(mapped, sources, p, seed, back=False)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dx: Tensor) -> tuple[Tensor | None, ...]:
        seed, sources, *saved = ctx.saved_tensors
        count = len(saved) // 2
        values, weights = saved[:count], saved[count:]
        back = item_rows(dx.contiguous(), sources, ctx.p, seed, back=True)
        parts = back.split([len(value) for value in values])
        wanted = ctx.needs_input_grad[3 : 3 + count]
        dvalues = [
            input_gradient(part, weight) if wants else None
            for part, weight, wants in zip(parts, weights, wanted, strict=True)
        ]
        dweights = [
            weight_gradient(part, value, weight, dtype)
            for part, value, weight, dtype in zip(parts, values, weights, ctx.dtypes, strict=False)
        ]
        dbiases = [
            bias_gradient(part, weight, dtype)
            for part, weight, dtype in zip(parts, weights, ctx.dtypes[count:], strict=True)
        ]
        return None, None, None, *dvalues, *dweights, *dbiases


def _thirds(tensors: Tensors) -> tuple[Tensors, Tensors, Tensors]:
    count = len(tensors) // 3
    return tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
