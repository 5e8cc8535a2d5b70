"""LN(residual + dropout(x)) against torch, eager and compiled: bound by copies."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.gpu.case import Case, Setting, Variant, Work
from odmt_fast.kernels.residual_norm import residual_norm

EPS = 1e-6


def cases(setting: Setting) -> Iterator[Case]:
    """The tokens of the official batch, without dropout and with it."""
    shape = (12, 32) if setting.tiny else (722 * 69, 768)
    for p in (0.0, 0.1):
        yield case(setting, *shape, p)


def case(setting: Setting, rows: int, width: int, p: float) -> Case:
    """Random rows in bf16, parameters in fp32."""
    torch.manual_seed(0)
    device = setting.device
    x, residual, upstream = (
        torch.randn(rows, width, dtype=torch.bfloat16, device=device) for _ in range(3)
    )
    weight, bias = torch.randn(width, device=device), torch.randn(width, device=device)
    seed = torch.tensor([7], device=device)

    def torch_norm(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        total = residual + F.dropout(x, p)
        return F.layer_norm(total.float(), (width,), weight, bias, EPS).to(x.dtype)

    def torch_narrow(x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        total = residual + F.dropout(x, p)
        return F.layer_norm(total, (width,), weight.to(x.dtype), bias.to(x.dtype), EPS)

    def ours(*tensors: Tensor) -> Tensor:
        return residual_norm(*tensors, eps=EPS, dropout=p, seed=seed if p else None)

    def variant(name: str, function: Callable[..., Tensor], *, slow_start: bool = False) -> Variant:
        leaves = tuple(t.clone().requires_grad_() for t in (x, residual, weight, bias))
        # Own random numbers each: with dropout the results differ by design.
        comparable = None if p else tuple
        return Variant(
            name,
            lambda: function(*leaves),
            leaves,
            (upstream,),
            comparable,
            slow_start=slow_start,
        )

    def variants() -> Iterator[Variant]:
        yield variant("torch, eager", torch_norm)
        yield variant("ours", ours)
        yield variant("torch, eager, parameters in bf16", torch_narrow)
        yield variant("torch.compile", setting.compiled(torch_norm), slow_start=True)

    tensor = x.numel() * x.element_size()
    work = Work((0.0, 0.0), (4 * tensor, (4 if p else 3) * tensor))
    label = f"{rows:,} rows of {width}, dropout {p}, bf16"
    return Case("residual_norm", label, work, variants())
