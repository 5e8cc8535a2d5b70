"""softmax(scale q k^T + mask) v within packed segments, forward.

Shapes    q, k, v [P, H, D]: bf16 | fp16 | fp32, last axis contiguous;  cu_seqlens [n + 1] int32
Returns   out [P, H, D] in q's dtype;  lse [P, H] fp32, natural log
Tiling    a program owns BLOCK_M queries and all keys of their segments (BLOCK_N of them), so the
          probabilities are final before the second product: no online softmax, and the output is
          written chunk by chunk of the head size, never held whole
Memory    scores and probabilities stay in registers; q, k, v are read once per block of queries
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.launch.device import device_of, on_device_of
from odmt_fast.kernels.launch.tuning import tuned
from odmt_fast.kernels.packed_attention.configs import Tile, forward_candidates, forward_tile
from odmt_fast.kernels.packed_attention.problem import Problem
from odmt_fast.kernels.packed_attention.tile import (
    MASKED,
    bounds,
    keep_pairs,
    load_chunk,
    product,
    readable,
    store_chunk,
)


@triton.jit(
    do_not_specialize=["n", "limit", "group_tokens"],
    do_not_specialize_on_alignment=["seed_ptr"],
)
def packed_attention_fwd_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    cu_ptr,
    seed_ptr,
    out_ptr,
    lse_ptr,
    stride_qp,
    stride_qh,
    stride_kp,
    stride_kh,
    stride_vp,
    stride_vh,
    n,
    scale,
    limit,
    inv_keep,
    group_tokens,
    H: tl.constexpr,
    D: tl.constexpr,
    MASK: tl.constexpr,
    DROPOUT: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_O: tl.constexpr,
    PRECISION: tl.constexpr,
):
    i_first = tl.program_id(0).to(tl.int64) * SEGMENTS
    i_head = tl.program_id(1).to(tl.int64)
    t_0 = tl.load(cu_ptr + i_first)
    t_1 = tl.load(cu_ptr + tl.minimum(i_first + SEGMENTS, n))
    o_q = tl.program_id(2) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_k = tl.arange(0, BLOCK_N)
    if t_0 + tl.program_id(2) * BLOCK_M >= t_1:
        return
    m_q = o_q < t_1 - t_0
    m_k = o_k < t_1 - t_0
    i_token = t_0.to(tl.int64)
    b_s = product(
        q_ptr + i_token * stride_qp + i_head * stride_qh,
        k_ptr + i_token * stride_kp + i_head * stride_kh,
        o_q,
        o_k,
        stride_qp,
        stride_kp,
        m_q,
        m_k,
        D,
        BLOCK_M,
        BLOCK_N,
        BLOCK_D,
        PRECISION,
    )
    b_qstart, b_qend = bounds(o_q, t_0, t_1, cu_ptr, i_first, n, SEGMENTS, BLOCK_S)
    b_kstart, _ = bounds(o_k, t_0, t_1, cu_ptr, i_first, n, SEGMENTS, BLOCK_S)
    m_pair = readable(o_q, o_k, b_qstart, b_qend, b_kstart, m_k, MASK)
    b_s = tl.where(m_pair, b_s * scale, MASKED)
    b_max = tl.max(b_s, axis=1)
    b_p = tl.exp(b_s - b_max[:, None])
    b_sum = tl.sum(b_p, axis=1)
    tl.store(lse_ptr + i_token * H + i_head + o_q * H, b_max + tl.log(b_sum), mask=m_q)
    b_p = b_p * (1.0 / b_sum)[:, None]
    if DROPOUT:
        seed = tl.load(seed_ptr)
        m_keep = keep_pairs(
            seed, t_0, o_q, o_k, b_kstart, i_head, 0, limit, group_tokens, H, SEGMENTS, BLOCK_N
        )
        b_p = tl.where(m_keep, b_p * inv_keep, 0.0)
    b_p = b_p.to(q_ptr.dtype.element_ty)
    p_v = v_ptr + i_token * stride_vp + i_head * stride_vh
    p_out = out_ptr + (i_token * H + i_head) * D
    for i_d in range(0, D, BLOCK_O):
        b_v = load_chunk(p_v, o_k, stride_vp, m_k, i_d, D, BLOCK_O)
        b_out = tl.dot(b_p, b_v, input_precision=PRECISION)
        store_chunk(p_out, b_out, o_q, H * D, m_q, i_d, D, BLOCK_O)


def packed_attention_fwd(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Launch. Returns (out, lse)."""
    q, longest = problem.q, problem.max_seqlen
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
    if problem.empty:
        return out, lse

    def launch(tile: Tile) -> None:
        segments = tile.segments(longest)
        grid = (
            triton.cdiv(problem.segments, segments),
            q.shape[1],
            triton.cdiv(longest * segments, tile.block_m),
        )
        packed_attention_fwd_kernel[grid](
            *problem.inputs,
            out,
            lse,
            *problem.strides,
            *problem.scalars,
            **problem.constants(tile, segments),
        )

    with on_device_of(q):
        reviewed = forward_tile(device_of(q), q.element_size(), longest)
        key = problem.key("packed_attention_fwd", reviewed.block_n)
        launch(tuned(key, reviewed, lambda: forward_candidates(reviewed), launch))
    return out, lse
