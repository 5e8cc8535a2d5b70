"""What the forward and the backward tiles of readout attention share: loads, masks."""

import triton
import triton.language as tl

from odmt_fast.kernels.dropout.philox import first_counter, keep_of_quads

# Finite: a difference of two of them is 0, not NaN.
MASKED = tl.constexpr(-1e30)
KEYS = tl.constexpr(512)  # segments.LONGEST_SEGMENT


@triton.jit
def readable(o_row, o_j, length, ROWS: tl.constexpr, H: tl.constexpr, MASK: tl.constexpr):
    """bool [BLOCK_R, BLOCK_N]: may row (readout * H + head) read key j? False for padding rows."""
    m_pair = (o_row < ROWS)[:, None] & (o_j < length)[None, :]
    if MASK == "asymmetric":
        m_all = o_row >= ROWS - H  # the last readout
        m_pair = m_pair & (m_all[:, None] | (o_j < length - 1)[None, :])
    return m_pair


@triton.jit
def keep_keys(seed_ptr, i_segment, o_row, limit, ROWS: tl.constexpr, BLOCK_N: tl.constexpr):
    """bool [BLOCK_R, BLOCK_N]. Element index = ((u * R + r) * H + h) * 512 + j."""
    b_row = (i_segment * ROWS + o_row) * (KEYS // 4)  # counters of a row, int64 [BLOCK_R]
    b_row += first_counter(seed_ptr)
    # A row's counters start at a multiple of 128 and j < 512: the low halves never carry.
    o_quad = tl.arange(0, BLOCK_N // 4).to(tl.uint32)
    c_lo = (b_row & 0xFFFFFFFF).to(tl.uint32)[:, None] | o_quad[None, :]
    c_hi = (b_row >> 32).to(tl.uint32)[:, None] | (o_quad * 0)[None, :]
    return keep_of_quads(tl.load(seed_ptr), c_lo, c_hi, limit)


@triton.jit
def load_chunk(p_x, o_row, stride, m_row, i_d, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Columns i_d .. i_d + BLOCK_D of the rows o_row int32 [B]; [B, BLOCK_D]."""
    o_d = i_d + tl.arange(0, BLOCK_D)
    m_x = m_row[:, None]
    if D % BLOCK_D != 0:
        m_x = m_x & (o_d < D)[None, :]
    return tl.load(p_x + o_row[:, None] * stride + o_d[None, :], mask=m_x, other=0.0)


@triton.jit
def store_chunk(p_y, b_y, o_row, m_row, i_d, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Inverse of load_chunk for contiguous y, rounding to y's dtype."""
    o_d = i_d + tl.arange(0, BLOCK_D)
    m_y = m_row[:, None]
    if D % BLOCK_D != 0:
        m_y = m_y & (o_d < D)[None, :]
    tl.store(p_y + o_row[:, None] * D + o_d[None, :], b_y.to(p_y.dtype.element_ty), mask=m_y)
