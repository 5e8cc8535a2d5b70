"""readout_attention in C++ (csrc/readout.inl): the readouts of a segment share every hidden state
they load, and a segment stays in cache between its uses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast import _C
from odmt_fast.kernels.dropout.cpu import dropout_argument
from odmt_fast.kernels.launch.dry import run
from odmt_fast.kernels.packed_attention.cpu import attention_argument


def forward(
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
    seed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """(out [U, R, H, d], lse [U, R, H]); arguments of `op.readout_attention`, contiguous."""
    _, readouts, heads, d = queries.shape
    out = torch.empty_like(queries)
    lse = torch.empty(queries.shape[:3], dtype=torch.float32)
    cu_seqlens = cu_seqlens.contiguous()
    shape = attention_argument(hidden, heads, d, cu_seqlens, mask, scale, dropout_argument(p, seed))
    run(
        _C.readout_attention_forward,
        shape,
        readouts,
        queries.data_ptr(),
        hidden.data_ptr(),
        out.data_ptr(),
        lse.data_ptr(),
    )
    return out, lse


def backward(
    dout: Tensor,
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
    seed: Tensor | None,
    lse: Tensor,
) -> tuple[Tensor, Tensor]:
    """(dqueries, dhidden) of `forward`, contiguous; dhidden gathers both uses of a state."""
    _, readouts, heads, d = queries.shape
    dqueries, dhidden = torch.empty_like(queries), torch.empty_like(hidden)
    cu_seqlens = cu_seqlens.contiguous()
    shape = attention_argument(hidden, heads, d, cu_seqlens, mask, scale, dropout_argument(p, seed))
    run(
        _C.readout_attention_backward,
        shape,
        readouts,
        queries.data_ptr(),
        hidden.data_ptr(),
        dout.data_ptr(),
        lse.data_ptr(),
        dqueries.data_ptr(),
        dhidden.data_ptr(),
    )
    return dqueries, dhidden
