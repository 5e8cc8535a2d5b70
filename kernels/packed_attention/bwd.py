"""Gradients of packed attention.

Shapes    dout, q, k, v [P, H, D];  lse [P, H] fp32;  cu_seqlens [n + 1] int32
Returns   dq, dk, dv [P, H, D] in q's dtype, written where the caller wants them
Method    with p = exp(s - lse), b = mask / (1 - dropout), m = b p: dv = m^T dout, e = m (dout v^T),
          ds = scale (e - p rowsum(e)), dq = ds k, dk = ds^T q. The mask is formed again
Tiling    up to 128 tokens a segment: one program forms both [L, L] tiles of an item once and writes
          all three gradients chunk by chunk. Longer: one launch over blocks of queries against all
          keys (dq, and delta = rowsum(e)), one over blocks of keys against all queries (dk, dv)
Order     every output element is written by one program, once: no atomics, equal runs are equal
          bit for bit
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.launch.device import device_of, on_device_of
from odmt_fast.kernels.launch.tuning import tuned
from odmt_fast.kernels.packed_attention.configs import (
    Backward,
    Tile,
    backward_candidates,
    backward_tiles,
)
from odmt_fast.kernels.packed_attention.problem import Problem
from odmt_fast.kernels.packed_attention.tile import (
    bounds,
    keep_pairs,
    load_chunk,
    product,
    readable,
    store_chunk,
)

Three = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@triton.jit(
    do_not_specialize=["n", "limit", "group_tokens"],
    do_not_specialize_on_alignment=["seed_ptr"],
)
def packed_attention_bwd_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    cu_ptr,
    seed_ptr,
    dout_ptr,
    lse_ptr,
    delta_ptr,  # fp32 [P, H]: written with dq, read where only dk and dv are formed
    dq_ptr,
    dk_ptr,
    dv_ptr,
    stride_qp,
    stride_qh,
    stride_kp,
    stride_kh,
    stride_vp,
    stride_vh,
    stride_gp,  # of all three gradients
    stride_gh,
    n,
    scale,
    limit,
    inv_keep,
    group_tokens,
    H: tl.constexpr,
    D: tl.constexpr,
    MASK: tl.constexpr,
    DROPOUT: tl.constexpr,
    COMPUTE_DQ: tl.constexpr,  # the tile holds all keys of its queries
    COMPUTE_DKV: tl.constexpr,  # the tile holds all queries of its keys
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
    i_q = 0
    i_k = 0
    if not COMPUTE_DKV:
        i_q = tl.program_id(2) * BLOCK_M
    if not COMPUTE_DQ:
        i_k = tl.program_id(2) * BLOCK_N
    if t_0 + i_q + i_k >= t_1:
        return
    o_q = i_q + tl.arange(0, BLOCK_M)
    o_k = i_k + tl.arange(0, BLOCK_N)
    m_q = o_q < t_1 - t_0
    m_k = o_k < t_1 - t_0
    i_token = t_0.to(tl.int64)
    p_q = q_ptr + i_token * stride_qp + i_head * stride_qh
    p_k = k_ptr + i_token * stride_kp + i_head * stride_kh
    p_v = v_ptr + i_token * stride_vp + i_head * stride_vh
    i_row = i_token * H + i_head  # of the contiguous [P, H, ..] tensors
    p_dout = dout_ptr + i_row * D
    i_gradient = i_token * stride_gp + i_head * stride_gh

    b_s = product(
        p_q, p_k, o_q, o_k, stride_qp, stride_kp, m_q, m_k, D, BLOCK_M, BLOCK_N, BLOCK_D,
        PRECISION,
    )  # fmt: skip
    b_qstart, b_qend = bounds(o_q, t_0, t_1, cu_ptr, i_first, n, SEGMENTS, BLOCK_S)
    b_kstart, _ = bounds(o_k, t_0, t_1, cu_ptr, i_first, n, SEGMENTS, BLOCK_S)
    m_pair = readable(o_q, o_k, b_qstart, b_qend, b_kstart, m_k, MASK) & m_q[:, None]
    b_lse = tl.load(lse_ptr + i_row + o_q * H, mask=m_q, other=0.0)
    # Masked scores may be large: bound the exponent before the mask is applied.
    b_p = tl.where(m_pair, tl.exp(tl.minimum(b_s * scale - b_lse[:, None], 0.0)), 0.0)
    if DROPOUT:
        # A probability is not negative, so its sign can carry the mask: one tile instead of two.
        seed = tl.load(seed_ptr)
        m_keep = keep_pairs(
            seed, t_0, o_q, o_k, b_kstart, i_head, i_k, limit, group_tokens, H, SEGMENTS, BLOCK_N
        )
        b_p = tl.where(m_keep, b_p, -b_p)
    b_dp = product(
        p_dout, p_v, o_q, o_k, H * D, stride_vp, m_q, m_k, D, BLOCK_M, BLOCK_N, BLOCK_D,
        PRECISION,
    )  # fmt: skip
    b_dp = tl.maximum(b_p, 0.0) * inv_keep * b_dp
    p_delta = delta_ptr + i_row + o_q * H
    if COMPUTE_DQ:
        b_delta = tl.sum(b_dp, axis=1)
        if not COMPUTE_DKV:
            tl.store(p_delta, b_delta, mask=m_q)
    else:
        b_delta = tl.load(p_delta, mask=m_q, other=0.0)
    b_ds = ((b_dp - tl.abs(b_p) * b_delta[:, None]) * scale).to(q_ptr.dtype.element_ty)
    if COMPUTE_DKV:
        b_keptT = tl.trans((tl.maximum(b_p, 0.0) * inv_keep).to(q_ptr.dtype.element_ty))
        for i_d in range(0, D, BLOCK_O):
            b_dout = load_chunk(p_dout, o_q, H * D, m_q, i_d, D, BLOCK_O)
            b_dv = tl.dot(b_keptT, b_dout, input_precision=PRECISION)
            store_chunk(dv_ptr + i_gradient, b_dv, o_k, stride_gp, m_k, i_d, D, BLOCK_O)
        b_dsT = tl.trans(b_ds)
        for i_d in range(0, D, BLOCK_O):
            b_q = load_chunk(p_q, o_q, stride_qp, m_q, i_d, D, BLOCK_O)
            b_dk = tl.dot(b_dsT, b_q, input_precision=PRECISION)
            store_chunk(dk_ptr + i_gradient, b_dk, o_k, stride_gp, m_k, i_d, D, BLOCK_O)
    if COMPUTE_DQ:
        for i_d in range(0, D, BLOCK_O):
            b_k = load_chunk(p_k, o_k, stride_kp, m_k, i_d, D, BLOCK_O)
            b_dq = tl.dot(b_ds, b_k, input_precision=PRECISION)
            store_chunk(dq_ptr + i_gradient, b_dq, o_q, stride_gp, m_q, i_d, D, BLOCK_O)


def packed_attention_bwd(
    problem: Problem, dout: torch.Tensor, lse: torch.Tensor, into: Three | None = None
) -> Three:
    """Launch; dout contiguous. Returns (dq, dk, dv): `into`, three tensors of equal strides with
    the last axis contiguous, or new ones.
    """
    q, longest = problem.q, problem.max_seqlen
    dq, dk, dv = into or (torch.empty(q.shape, dtype=q.dtype, device=q.device) for _ in range(3))
    if problem.empty:
        return dq, dk, dv
    delta = torch.empty_like(lse)

    def launch_part(tile: Tile, compute_dq: bool, compute_dkv: bool) -> None:
        # Tiles of several segments are always whole: blocks of queries or keys cut one segment.
        whole = compute_dq and compute_dkv
        segments = tile.segments(longest) if whole else 1
        block = tile.block_n if compute_dkv else tile.block_m
        grid = (
            triton.cdiv(problem.segments, segments),
            q.shape[1],
            1 if whole else triton.cdiv(longest, block),
        )
        packed_attention_bwd_kernel[grid](
            *problem.inputs,
            dout,
            lse,
            delta,
            dq,
            dk,
            dv,
            *problem.strides,
            *dq.stride()[:2],
            *problem.scalars,
            **problem.constants(tile, segments),
            COMPUTE_DQ=compute_dq,
            COMPUTE_DKV=compute_dkv,
        )

    def launch(tiles: Backward) -> None:
        if tiles.keys is None:
            launch_part(tiles.queries, True, True)
        else:
            launch_part(tiles.queries, True, False)
            launch_part(tiles.keys, False, True)

    with on_device_of(q):
        reviewed = backward_tiles(device_of(q), q.element_size(), longest)
        key = problem.key("packed_attention_bwd", reviewed.queries.block_n)
        launch(tuned(key, reviewed, lambda: backward_candidates(reviewed), launch))
    return dq, dk, dv
