"""residual_norm in C++ (csrc/residual_norm.inl): one pass over memory forward, one backward."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.dropout.cpu import dropout_argument
from odmt_fast.kernels.launch.dry import run


def forward(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    p: float,
    seed: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(out, total, mean [R], rstd [R]); total = residual + dropout(x) in x's dtype.

    Args: of `op.residual_norm`; contiguous, float32 or bfloat16.
    """
    rows, d = x.shape
    out, total = torch.empty_like(x), torch.empty_like(x)
    mean = torch.empty(rows, dtype=torch.float32)
    rstd = torch.empty(rows, dtype=torch.float32)
    groups = len(weight) if weight.dim() == 2 else 1
    weight, bias = weight.float(), bias.float()
    run(
        _C.residual_norm_forward,
        x.dtype == torch.bfloat16,
        rows,
        d,
        groups,
        eps,
        dropout_argument(p, seed),
        torch.get_num_threads(),
        x.data_ptr(),
        residual.data_ptr(),
        weight.data_ptr(),
        bias.data_ptr(),
        out.data_ptr(),
        total.data_ptr(),
        mean.data_ptr(),
        rstd.data_ptr(),
    )
    return out, total, mean, rstd


def backward(
    dout: Tensor,
    total: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    p: float,
    seed: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(dx, dresidual, dweight, dbias); without dropout dx and dresidual are one tensor."""
    rows, d = total.shape
    dresidual = torch.empty_like(total)
    dropout = dropout_argument(p, seed)
    dx = torch.empty_like(total) if dropout[2] else dresidual
    dweight = torch.empty(weight.shape, dtype=torch.float32)
    dbias = torch.empty(weight.shape, dtype=torch.float32)
    scale = weight.float()
    run(
        _C.residual_norm_backward,
        total.dtype == torch.bfloat16,
        rows,
        d,
        len(weight) if weight.dim() == 2 else 1,
        dropout,
        torch.get_num_threads(),
        dout.data_ptr(),
        total.data_ptr(),
        mean.data_ptr(),
        rstd.data_ptr(),
        scale.data_ptr(),
        dx.data_ptr(),
        dresidual.data_ptr(),
        dweight.data_ptr(),
        dbias.data_ptr(),
    )
    return dx, dresidual, dweight.to(weight.dtype), dbias.to(weight.dtype)
