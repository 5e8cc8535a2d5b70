"""softmax(scale queries hidden^T + mask) hidden per segment, forward.

Shapes    queries [U, R, H, d], hidden [P, d]: bf16 | fp16 | fp32;  cu_seqlens [U + 1] int32
Returns   out [U, R, H, d] in queries' dtype;  lse [U, R, H] fp32, natural log; a row without any
          key to read gives 0 and a finite lse that its masked keys never see
Tiling    one program a segment: all its R * H rows against all its keys, the width in chunks
Memory    hidden is read twice, the second time from cache; nothing of size [rows, keys] is written
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.launch.device import device_of, on_device_of
from odmt_fast.kernels.launch.tuning import tuned
from odmt_fast.kernels.readout_attention.configs import Tile, candidates, forward_tile
from odmt_fast.kernels.readout_attention.problem import Problem
from odmt_fast.kernels.readout_attention.tile import (
    MASKED,
    keep_keys,
    load_chunk,
    readable,
    store_chunk,
)


@triton.jit(do_not_specialize=["limit"], do_not_specialize_on_alignment=["seed_ptr"])
def readout_attention_fwd_kernel(
    query_ptr,
    hidden_ptr,
    cu_ptr,
    seed_ptr,
    out_ptr,
    lse_ptr,
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
    p_hidden = hidden_ptr + t_0.to(tl.int64) * stride_hidden
    b_s = tl.zeros([BLOCK_R, BLOCK_N], tl.float32)
    for i_d in range(0, D, BLOCK_D):
        b_query = load_chunk(p_query, o_row, D, m_row, i_d, D, BLOCK_D)
        b_hidden = load_chunk(p_hidden, o_j, stride_hidden, m_j, i_d, D, BLOCK_D)
        b_s = tl.dot(b_query, tl.trans(b_hidden), b_s, input_precision=PRECISION)
    m_pair = readable(o_row, o_j, length, ROWS, H, MASK)
    b_s = tl.where(m_pair, b_s * scale, MASKED)
    b_max = tl.max(b_s, axis=1)
    b_p = tl.where(m_pair, tl.exp(b_s - b_max[:, None]), 0.0)
    # A row that may read nothing has the sum 0; 1 makes its probabilities 0 and its lse finite.
    b_sum = tl.sum(b_p, axis=1)
    b_sum = tl.where(b_sum > 0.0, b_sum, 1.0)
    tl.store(lse_ptr + i_segment * ROWS + o_row, b_max + tl.log(b_sum), mask=m_row)
    b_p = b_p * (1.0 / b_sum)[:, None]
    if DROPOUT:
        m_keep = keep_keys(tl.load(seed_ptr), i_segment, o_row, limit, ROWS, BLOCK_N)
        b_p = tl.where(m_keep, b_p * inv_keep, 0.0)
    b_p = b_p.to(query_ptr.dtype.element_ty)
    for i_d in range(0, D, BLOCK_D):
        b_hidden = load_chunk(p_hidden, o_j, stride_hidden, m_j, i_d, D, BLOCK_D)
        b_out = tl.dot(b_p, b_hidden, input_precision=PRECISION)
        store_chunk(out_ptr + i_segment * ROWS * D, b_out, o_row, m_row, i_d, D, BLOCK_D)


def readout_attention_fwd(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Launch. Returns (out, lse)."""
    queries = problem.queries
    out = torch.empty_like(queries)
    lse = torch.empty(queries.shape[:3], dtype=torch.float32, device=queries.device)
    if out.numel() == 0:
        return out, lse

    def launch(tile: Tile) -> None:
        readout_attention_fwd_kernel[(queries.shape[0],)](
            *problem.inputs, out, lse, *problem.scalars, **problem.constants(tile)
        )

    with on_device_of(queries):
        reviewed = forward_tile(
            device_of(queries), queries.element_size(), problem.max_seqlen, problem.block_r
        )
        key = problem.key("readout_attention_fwd", reviewed.block_n)
        launch(tuned(key, reviewed, lambda: candidates(reviewed), launch))
    return out, lse
