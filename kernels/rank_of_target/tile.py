"""What the Triton searches need of a tile of users and items: its scores, and which count."""

import triton
import triton.language as tl

from odmt_fast.kernels.distilled_softmax.tile import PAST_ALL, lower_bound


@triton.jit
def tile_scores(
    queries_ptr,  # one branch, [B, D]
    items_ptr,  # one branch, [N, D]
    o_user,  # int64 [BLOCK_M]
    o_item,  # int64 [BLOCK_N]
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # -> fp32 [BLOCK_M, BLOCK_N]
    b_z = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for d in tl.range(0, D, BLOCK_D, loop_unroll_factor=1):
        o_d = d + tl.arange(0, BLOCK_D)
        m_d = o_d < D
        b_q = tl.load(
            queries_ptr + o_user[:, None] * D + o_d[None, :], mask=m_d[None, :], other=0.0
        )
        b_e = tl.load(items_ptr + o_item[None, :] * D + o_d[:, None], mask=m_d[:, None], other=0.0)
        b_z = tl.dot(b_q, b_e, b_z, input_precision=PRECISION)
    return b_z


@triton.jit
def tile_counts(
    history_ptr,
    allowed_ptr,
    p_begin,
    p_end,
    start,
    stop,
    ALLOWED: tl.constexpr,
    BLOCK_N: tl.constexpr,
):  # -> bool [BLOCK_M, BLOCK_N]
    """Which of the items start..start + BLOCK_N - 1 below stop count for each user.

    p_begin, p_end: int32 [BLOCK_M], where the user's sorted excluded items lie in `history`.
    """
    o_item = start + tl.arange(0, BLOCK_N)
    m_item = o_item < stop
    if ALLOWED:
        m_item = m_item & (tl.load(allowed_ptr + o_item, mask=m_item, other=0) != 0)
    m_out = (p_begin < 0)[:, None] & m_item[None, :]
    p_next = lower_bound(history_ptr, p_begin, p_end, start)
    b_next = tl.load(history_ptr + p_next, mask=p_next < p_end, other=PAST_ALL)
    # As many turns as the busiest user has excluded items in this tile: mostly none.
    while tl.min(b_next, axis=0) < start + BLOCK_N:
        m_out = m_out | (o_item[None, :] == b_next[:, None])
        p_next += 1
        b_next = tl.load(history_ptr + p_next, mask=p_next < p_end, other=PAST_ALL)
    return m_item[None, :] & (m_out == 0)
