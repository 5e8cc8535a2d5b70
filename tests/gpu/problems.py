"""Random calls of the operators: kernel and reference on the same leaves, and how to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from odmt_fast.kernels.dropout import dropout
from odmt_fast.kernels.dropout.reference import dropout_reference
from odmt_fast.kernels.packed_attention import packed_attention, packed_self_attention
from odmt_fast.kernels.packed_attention.reference import packed_attention_reference
from odmt_fast.kernels.readout_attention import readout_attention
from odmt_fast.kernels.readout_attention.reference import readout_attention_reference
from odmt_fast.kernels.residual_norm import residual_norm
from odmt_fast.kernels.residual_norm.reference import residual_norm_reference

SEED = -1234567890123456
"""Negative and wider than 32 bits: both halves of the key matter."""

EPS = 1e-6

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Problem:
    """One call.

    Attributes:
        name: operator and shape.
        leaves: what gradients are taken for; the last `parameters` of them stay float32.
        upstream: gradient of the output.
        kernel, reference: leaves -> output.
    """

    name: str
    leaves: tuple[Tensor, ...]
    upstream: Tensor
    kernel: Function
    reference: Function
    parameters: int = 0

    def __str__(self) -> str:
        return self.name

    def to(self, device: torch.device, dtype: torch.dtype) -> Problem:
        """Data in `dtype`; parameters in float32, or float64 for float64."""
        data = len(self.leaves) - self.parameters
        wide = torch.promote_types(dtype, torch.float32)
        leaves = tuple(x.to(device, dtype if i < data else wide) for i, x in enumerate(self.leaves))
        return replace(self, leaves=leaves, upstream=self.upstream.to(device, dtype))

    def run(self, function: Function) -> tuple[Tensor, ...]:
        """Output and gradients."""
        leaves = [x.detach().clone().requires_grad_() for x in self.leaves]
        out = function(*leaves)
        return (out.detach(), *torch.autograd.grad(out, leaves, self.upstream))


def assert_no_worse(problem: Problem, wide: Problem, factor: float = 2.0) -> None:
    """At most `factor` times the error of the eager reference in the same dtype."""
    got, naive = problem.run(problem.kernel), problem.run(problem.reference)
    gold = wide.run(wide.reference)
    for number, (a, b, exact) in enumerate(zip(got, naive, gold, strict=True)):
        assert torch.isfinite(a).all(), f"result {number}: not finite"
        assert a.dtype == b.dtype and a.shape == b.shape
        if not a.numel():
            continue
        errors = [float((x.double() - exact).abs().max()) for x in (a, b)]
        rounding = 1e-6 * max(1.0, float(exact.abs().max()))
        assert errors[0] <= factor * errors[1] + rounding, f"result {number}: {errors}"


def _cu_seqlens(lengths: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def attention(
    lengths: tuple[int, ...], size: int, mask: str, p: float, heads: int = 2, fused: bool = False
) -> Problem:
    """packed_attention; q, k, v are slices of one tensor wider than they need."""
    cu, longest = _cu_seqlens(lengths), max(lengths)

    def kernel(qkv: Tensor) -> Tensor:
        seed = torch.tensor([SEED], device=qkv.device)
        slices = (qkv[..., :size],) if fused else qkv[..., :size].unbind(1)
        return (packed_self_attention if fused else packed_attention)(
            *slices,
            cu.to(qkv.device),
            max_seqlen=longest,
            mask=mask,
            scale=size**-0.5,
            dropout=p,
            seed=seed,
        )

    def reference(qkv: Tensor) -> Tensor:
        q, k, v = qkv[..., :size].unbind(1)
        seed = torch.tensor([SEED], device=qkv.device)
        return packed_attention_reference(
            q, k, v, cu.to(qkv.device), longest, mask, size**-0.5, p, seed
        )

    tokens = int(cu[-1])
    return Problem(
        f"attention-L{'-'.join(map(str, lengths[:6]))}-D{size}-{mask}-p{p}-{fused}",
        (torch.randn(tokens, 3, heads, size + 8),),
        torch.randn(tokens, heads, size),
        kernel,
        reference,
    )


def readout(
    lengths: tuple[int, ...], width: int, mask: str, p: float, rows: tuple[int, int] = (3, 2)
) -> Problem:
    """readout_attention on strided hidden states."""
    cu, longest, scale = _cu_seqlens(lengths), max(lengths), width**-0.5

    def kernel(queries: Tensor, hidden: Tensor) -> Tensor:
        seed = torch.tensor([SEED], device=queries.device)
        return readout_attention(
            queries,
            hidden[:, :width],
            cu.to(queries.device),
            max_seqlen=longest,
            mask=mask,
            scale=scale,
            dropout=p,
            seed=seed,
        )

    def reference(queries: Tensor, hidden: Tensor) -> Tensor:
        seed = torch.tensor([SEED], device=queries.device)
        return readout_attention_reference(
            queries, hidden[:, :width], cu.to(queries.device), longest, mask, scale, p, seed
        )

    queries = torch.randn(len(lengths), *rows, width)
    return Problem(
        f"readout-L{'-'.join(map(str, lengths[:6]))}-d{width}-{mask}-p{p}",
        (queries, torch.randn(int(cu[-1]), width + 8)),
        torch.randn_like(queries),
        kernel,
        reference,
    )


def norm(rows: int, width: int, groups: int, p: float) -> Problem:
    """residual_norm with parameters per group."""

    def kernel(*leaves: Tensor) -> Tensor:
        seed = torch.tensor([SEED], device=leaves[0].device)
        return residual_norm(*leaves, eps=EPS, dropout=p, seed=seed)

    def reference(*leaves: Tensor) -> Tensor:
        seed = torch.tensor([SEED], device=leaves[0].device)
        return residual_norm_reference(*leaves, EPS, p, seed)

    shape = (groups, width) if groups > 1 else (width,)
    return Problem(
        f"norm-{rows}x{width}-G{groups}-p{p}",
        (*torch.randn(2, rows, width), torch.randn(shape), torch.randn(shape)),
        torch.randn(rows, width),
        kernel,
        reference,
        parameters=2,
    )


def drop(shape: tuple[int, ...], p: float) -> Problem:
    """dropout."""

    def kernel(x: Tensor) -> Tensor:
        return dropout(x, p, torch.tensor([SEED], device=x.device))

    def reference(x: Tensor) -> Tensor:
        return dropout_reference(x, p, torch.tensor([SEED], device=x.device))

    name = f"dropout-{'x'.join(map(str, shape))}-p{p}"
    return Problem(name, (torch.randn(shape),), torch.randn(shape), kernel, reference)


ITEMS = (69, 81, 57, 1, 0, 70)
USERS = (5, 1, 3, 0, 12, 9, 1, 2)
SMALL = [
    attention(USERS, 24, "causal", 0.3),
    readout((5, 1, 0, 30, 2), 40, "asymmetric", 0.3),
    norm(12, 50, 3, 0.3),
    drop((5, 1003), 0.5),
]
