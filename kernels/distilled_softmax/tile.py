"""What both directions of the flash engine need of a tile of logits: its scores and its weights.

Tile      [BLOCK_M, BLOCK_N]: rows o_m of the batch against distinct columns start_n + 0..BLOCK_N
Scores    z_k = u_k . e_k - log p, fp32, one tensor per branch, in a tuple
Weights   the column's count, 0 at columns of the row's history and past the last, 1 at the target
"""

import triton
import triton.language as tl

LOWEST = tl.constexpr(-1e30)
PAST_ALL = tl.constexpr(2147483647)


@triton.jit
def lower_bound(history_ptr, p_begin, p_end, value):
    """Per row, the first of the sorted history[begin:end] that is >= value."""
    p_lo, p_hi = p_begin, p_end
    while tl.max(p_hi - p_lo, axis=0) > 0:
        m_open = p_lo < p_hi
        p_mid = (p_lo + p_hi) // 2
        b_history = tl.load(history_ptr + p_mid, mask=m_open, other=PAST_ALL)
        m_less = m_open & (b_history < value)
        p_lo = tl.where(m_less, p_mid + 1, p_lo)
        p_hi = tl.where(m_open & (b_history >= value), p_mid, p_hi)
    return p_lo


@triton.jit
def row_facts(target_ptr, row_user_ptr, history_offsets_ptr, o_m, M):
    """Per row: the target's column (-1 past the last row) and where its user's history lies."""
    m_m = o_m < M
    b_target = tl.load(target_ptr + o_m, mask=m_m, other=-1).to(tl.int32)
    b_user = tl.load(row_user_ptr + o_m, mask=m_m, other=0)
    p_begin = tl.load(history_offsets_ptr + b_user, mask=m_m, other=0)
    p_end = tl.load(history_offsets_ptr + b_user + 1, mask=m_m, other=0)
    return b_target, p_begin, p_end


@triton.jit
def tile_weights(
    counts_ptr,
    history_ptr,
    b_target,
    p_begin,
    p_end,
    start_n,
    U,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    o_n = start_n + tl.arange(0, BLOCK_N)
    b_counts = tl.load(counts_ptr + o_n, mask=o_n < U, other=0).to(tl.float32)
    b_w = tl.broadcast_to(b_counts[None, :], (BLOCK_M, BLOCK_N))
    p_next = lower_bound(history_ptr, p_begin, p_end, start_n)
    b_next = tl.load(history_ptr + p_next, mask=p_next < p_end, other=PAST_ALL)
    # As many turns as the busiest row has history columns in this tile: mostly none to three.
    while tl.min(b_next, axis=0) < start_n + BLOCK_N:
        b_w = tl.where(o_n[None, :] == b_next[:, None], 0.0, b_w)
        p_next += 1
        b_next = tl.load(history_ptr + p_next, mask=p_next < p_end, other=PAST_ALL)
    return tl.where(o_n[None, :] == b_target[:, None], 1.0, b_w)


@triton.jit
def tile_scores(
    queries_ptr,
    items_ptr,
    log_p_ptr,
    start_m,
    start_n,
    M,
    U,
    D: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    # Past the last row or column the last one is read again: its weight or its store is masked.
    o_row = tl.minimum(tl.arange(0, BLOCK_M), M - 1 - start_m)
    o_column = tl.minimum(tl.arange(0, BLOCK_N), U - 1 - start_n)
    b_log_p = tl.load(log_p_ptr + start_n + o_column)
    z = ()
    for k in tl.static_range(K):
        # Scalar bases are 64-bit, the tile's own offsets 32-bit: half the registers.
        p_q = queries_ptr + (k * M.to(tl.int64) + start_m) * D
        p_e = items_ptr + (k * U.to(tl.int64) + start_n) * D
        b_z = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for d in tl.range(0, D, BLOCK_D, loop_unroll_factor=1):
            o_d = d + tl.arange(0, BLOCK_D)
            if D % BLOCK_D == 0:
                b_q = tl.load(p_q + (o_row[:, None] * D + o_d[None, :]))
                b_e = tl.load(p_e + (o_column[None, :] * D + o_d[:, None]))
            else:
                m_d = o_d < D
                b_q = tl.load(
                    p_q + (o_row[:, None] * D + o_d[None, :]), mask=m_d[None, :], other=0.0
                )
                b_e = tl.load(
                    p_e + (o_column[None, :] * D + o_d[:, None]), mask=m_d[:, None], other=0.0
                )
            b_z = tl.dot(b_q, b_e, b_z, input_precision=PRECISION)
        z = z + (b_z - b_log_p[None, :],)
    return z


@triton.jit
def score_of(z, t: tl.constexpr, K: tl.constexpr):
    """Branch t's scores, or all branches' sum when t = K: not kept, to save registers."""
    if t < K:
        b_z = z[t]
    else:
        b_z = z[0]
        for k in tl.static_range(1, K):
            b_z += z[k]
    return b_z


@triton.jit
def inv_tau_of(inv_tau, t: tl.constexpr, K: tl.constexpr):
    """What scores of t are multiplied with; the ensemble's are sums, exact where a mean is not."""
    return inv_tau if t < K else inv_tau * (1.0 / K)


@triton.jit
def exponentials(b_w, b_z, b_top, inv_tau):
    """w exp((z - top) / tau) of a tile; 0 where w is, there alone can z be above its row's top."""
    b_x = b_z - b_top[:, None]
    return b_w * tl.exp(tl.where(b_x > 0.0, 0.0, b_x) * inv_tau)
