"""Gradients of readout attention.

Shapes    dout, queries [U, R, H, d], hidden [P, d];  lse [U, R, H] fp32;  cu_seqlens [U + 1] int32
Returns   dqueries [U, R, H, d], dhidden [P, d], contiguous, in the data's dtype
Method    with p = exp(s - lse), b = mask / (1 - dropout), m = b p: e = m (dout hidden^T),
          ds = scale (e - p rowsum(e)), dqueries = ds hidden, dhidden = ds^T queries + m^T dout.
          The mask is formed again
Tiling    one program a segment, as in the forward: every output element is written once, so
          there are no atomics and equal runs are equal bit for bit
Memory    hidden is read twice, the second time from cache; dhidden is written once
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.launch.device import device_of, on_device_of
from odmt_fast.kernels.launch.tuning import tuned
from odmt_fast.kernels.readout_attention.configs import Tile, backward_tile, candidates
from odmt_fast.kernels.readout_attention.problem import Problem
from odmt_fast.kernels.readout_attention.tile import (
    keep_keys,
    load_chunk,
    readable,
    store_chunk,
)


@triton.jit(do_not_specialize=["limit"], do_not_specialize_on_alignment=["seed_ptr"])
def readout_attention_bwd_kernel(
    query_ptr,
    hidden_ptr,
    cu_ptr,
    seed_ptr,
    dout_ptr,
    lse_ptr,
    dquery_ptr,
    dhidden_ptr,
    stride_hidden,
    scale,
    limit,
    inv_keep,
    ROWS: tl.constexpr,  # R * H
    H: tl.constexpr,
    D: tl.constexpr,
    MASK: tl.constexpr,
    DROPOUT: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    i_segment = tl.program_id(0).to(tl.int64)
    t_0 = tl.load(cu_ptr + i_segment)
    length = tl.load(cu_ptr + i_segment + 1) - t_0
    o_row = tl.arange(0, BLOCK_R)
    o_j = tl.arange(0, BLOCK_N)
    m_row = o_row < ROWS
    m_j = o_j < length
    p_query = query_ptr + i_segment * ROWS * D
    p_dout = dout_ptr + i_segment * ROWS * D
    p_hidden = hidden_ptr + t_0.to(tl.int64) * stride_hidden
    b_s = tl.zeros([BLOCK_R, BLOCK_N], tl.float32)
    b_e = tl.zeros([BLOCK_R, BLOCK_N], tl.float32)
    for i_d in range(0, D, BLOCK_D):
        b_hiddenT = tl.trans(load_chunk(p_hidden, o_j, stride_hidden, m_j, i_d, D, BLOCK_D))
        b_query = load_chunk(p_query, o_row, D, m_row, i_d, D, BLOCK_D)
        b_dout = load_chunk(p_dout, o_row, D, m_row, i_d, D, BLOCK_D)
        b_s = tl.dot(b_query, b_hiddenT, b_s, input_precision=PRECISION)
        b_e = tl.dot(b_dout, b_hiddenT, b_e, input_precision=PRECISION)
    m_pair = readable(o_row, o_j, length, ROWS, H, MASK)
    b_lse = tl.load(lse_ptr + i_segment * ROWS + o_row, mask=m_row, other=0.0)
    # Masked scores may be large: bound the exponent before the mask is applied.
    b_p = tl.where(m_pair, tl.exp(tl.minimum(b_s * scale - b_lse[:, None], 0.0)), 0.0)
    b_m = b_p
    if DROPOUT:
        m_keep = keep_keys(tl.load(seed_ptr), i_segment, o_row, limit, ROWS, BLOCK_N)
        b_m = tl.where(m_keep, b_p * inv_keep, 0.0)
    b_e = b_m * b_e
    b_ds = ((b_e - b_p * tl.sum(b_e, axis=1)[:, None]) * scale).to(query_ptr.dtype.element_ty)
    b_dsT = tl.trans(b_ds)
    b_mT = tl.trans(b_m.to(query_ptr.dtype.element_ty))
    p_dquery = dquery_ptr + i_segment * ROWS * D
    p_dhidden = dhidden_ptr + t_0.to(tl.int64) * D
    for i_d in range(0, D, BLOCK_D):
        b_hidden = load_chunk(p_hidden, o_j, stride_hidden, m_j, i_d, D, BLOCK_D)
        b_query = load_chunk(p_query, o_row, D, m_row, i_d, D, BLOCK_D)
        b_dout = load_chunk(p_dout, o_row, D, m_row, i_d, D, BLOCK_D)
        b_dquery = tl.dot(b_ds, b_hidden, input_precision=PRECISION)
        store_chunk(p_dquery, b_dquery, o_row, m_row, i_d, D, BLOCK_D)
        b_dhidden = tl.dot(b_dsT, b_query, input_precision=PRECISION)
        b_dhidden = tl.dot(b_mT, b_dout, b_dhidden, input_precision=PRECISION)
        store_chunk(p_dhidden, b_dhidden, o_j, m_j, i_d, D, BLOCK_D)


def readout_attention_bwd(
    problem: Problem, dout: torch.Tensor, lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Launch; dout contiguous. Returns (dqueries, dhidden)."""
    queries, hidden = problem.queries, problem.hidden
    dqueries = torch.empty_like(queries)
    dhidden = torch.empty(hidden.shape, dtype=hidden.dtype, device=hidden.device)
    if queries.numel() == 0:
        return dqueries, dhidden.zero_()

    def launch(tile: Tile) -> None:
        readout_attention_bwd_kernel[(queries.shape[0],)](
            *problem.inputs,
            dout,
            lse,
            dqueries,
            dhidden,
            *problem.scalars,
            **problem.constants(tile),
        )

    with on_device_of(queries):
        reviewed = backward_tile(
            device_of(queries), queries.element_size(), problem.max_seqlen, problem.block_r
        )
        key = problem.key("readout_attention_bwd", reviewed.block_n)
        launch(tuned(key, reviewed, lambda: candidates(reviewed), launch))
    return dqueries, dhidden
