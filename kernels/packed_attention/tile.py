"""What the forward and the backward tiles of packed attention share: loads, bounds, masks.

A program owns SEGMENTS consecutive segments, that is the tokens [t_0, t_1): one segment as a rule,
several where segments are so short that all keys of several fit one tile. Each token of a tile
carries the bounds of its own segment, so one rule masks both cases. Tokens are counted from t_0:
scalar bases are 64 bits wide, the offsets of a tile 32, which spares registers.
"""

import triton
import triton.language as tl

from odmt_fast.kernels.dropout.philox import (
    GROUP,
    first_counter,
    keep_of_elements,
    keep_of_quads,
)

# Finite: a difference of two of them is 0, not NaN.
MASKED = tl.constexpr(-1e30)
KEYS = tl.constexpr(512)  # segments.LONGEST_SEGMENT
FAR = tl.constexpr(2147483647)


@triton.jit
def bounds(o_token, t_0, t_1, cu_ptr, i_first, n, SEGMENTS: tl.constexpr, BLOCK_S: tl.constexpr):
    """(first token, past-the-last token) of the segment of each token of o_token, int32 [B]."""
    if SEGMENTS == 1:
        b_start = o_token * 0
        b_end = o_token * 0 + (t_1 - t_0)
    else:
        o_s = tl.arange(0, BLOCK_S)
        m_s = (o_s <= SEGMENTS) & (i_first + o_s <= n)
        b_cu = tl.load(cu_ptr + i_first + o_s, mask=m_s, other=FAR) - t_0
        m_before = b_cu[None, :] <= o_token[:, None]  # [B, BLOCK_S]
        b_start = tl.max(tl.where(m_before, b_cu[None, :], 0), axis=1)
        b_end = tl.min(tl.where(m_before, FAR, b_cu[None, :]), axis=1)
    return b_start, b_end


@triton.jit
def readable(o_q, o_k, b_qstart, b_qend, b_kstart, m_k, MASK: tl.constexpr):
    """bool [BM, BN]: may query token o_q read key token o_k?"""
    m_pair = (b_qstart[:, None] == b_kstart[None, :]) & m_k[None, :]
    if MASK == "causal":
        m_pair = m_pair & (o_k[None, :] <= o_q[:, None])
    elif MASK == "asymmetric":
        b_last = b_qend - 1
        m_pair = m_pair & ((o_k[None, :] < b_last[:, None]) | (o_q == b_last)[:, None])
    return m_pair


@triton.jit
def keep_pairs(
    seed_ptr,
    t_0,
    o_q,
    o_k,
    b_kstart,
    i_head,
    j_0,  # position of the tile's first key, a multiple of 4; used where SEGMENTS == 1
    limit,
    group_tokens,  # tokens of a group
    H: tl.constexpr,
    SEGMENTS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """bool [BM, BN]. Element = group, then (query token * H + head) * 512 + position of the key."""
    o_token = t_0 + o_q
    b_group = o_token // group_tokens
    o_token -= b_group * group_tokens
    b_row = (o_token.to(tl.int64) * H + i_head) * (KEYS // 4)  # counters of a row, [BM]
    b_row += b_group.to(tl.int64) * (GROUP // 4) + first_counter(seed_ptr)
    seed = tl.load(seed_ptr)
    if SEGMENTS == 1:
        # A row's counters start at a multiple of 128 and j < 512: the low halves never carry.
        o_quad = (j_0 // 4 + tl.arange(0, BLOCK_N // 4)).to(tl.uint32)
        c_lo = (b_row & 0xFFFFFFFF).to(tl.uint32)[:, None] | o_quad[None, :]
        c_hi = (b_row >> 32).to(tl.uint32)[:, None] | (o_quad * 0)[None, :]
        m_keep = keep_of_quads(seed, c_lo, c_hi, limit)
    else:
        m_keep = keep_of_elements(seed, b_row[:, None] * 4 + (o_k - b_kstart)[None, :], limit)
    return m_keep


@triton.jit
def load_chunk(x_ptr, o_token, stride, m_token, i_d, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Columns i_d .. i_d + BLOCK_D of the rows o_token int32 [B] of x; [B, BLOCK_D]."""
    o_d = i_d + tl.arange(0, BLOCK_D)
    m_x = m_token[:, None]
    if D % BLOCK_D != 0:
        m_x = m_x & (o_d < D)[None, :]
    return tl.load(x_ptr + o_token[:, None] * stride + o_d[None, :], mask=m_x, other=0.0)


@triton.jit
def store_chunk(y_ptr, b_y, o_token, stride, m_token, i_d, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Inverse of load_chunk, rounding to y's dtype."""
    o_d = i_d + tl.arange(0, BLOCK_D)
    m_y = m_token[:, None]
    if D % BLOCK_D != 0:
        m_y = m_y & (o_d < D)[None, :]
    p_y = y_ptr + o_token[:, None] * stride + o_d[None, :]
    tl.store(p_y, b_y.to(y_ptr.dtype.element_ty), mask=m_y)


@triton.jit
def product(
    x_ptr,
    y_ptr,
    o_x,
    o_y,
    stride_x,
    stride_y,
    m_x,
    m_y,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """x y^T, [BM, BN] fp32, summed over chunks of the head size."""
    b_s = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for i_d in range(0, D, BLOCK_D):
        b_x = load_chunk(x_ptr, o_x, stride_x, m_x, i_d, D, BLOCK_D)
        b_y = load_chunk(y_ptr, o_y, stride_y, m_y, i_d, D, BLOCK_D)
        b_s = tl.dot(b_x, tl.trans(b_y), b_s, input_precision=PRECISION)
    return b_s
