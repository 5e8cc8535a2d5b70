"""Sums of the gradients of equal rows: the steps in the order of their rows, then the sums.

Shapes    index [M] int64 in 0..n - 1;  grad [K * M, D]: fp32 | bf16 | fp16
Returns   order [M] int32, the steps of row 0, of row 1, .., ascending within a row; ends [n] int32,
          where those of a row end; sums [K, n, D], added in fp32
Memory    the order reads the index n / ORDER_ROWS times, from cache: 30 MB of 12,288 steps and
          5,000 rows. The sums read every gradient and write every row once
Order     counted and added in ascending steps, without atomics: equal runs are equal bit for bit
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.gathered_rows.configs import (
    MOST_COLUMNS,
    ORDER_ROWS,
    ORDER_STEPS,
    SUMMED,
)
from odmt_fast.kernels.launch.device import on_device_of

NO_ROW = tl.constexpr(2**31 - 1)


@triton.jit(do_not_specialize=["M", "N"])
def row_order_kernel(
    index_ptr, order_ptr, ends_ptr, M, N, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr
):
    o_n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    b_place = tl.zeros([BLOCK_N], tl.int32)  # steps of rows before
    for i_m in range(0, M, BLOCK_M):
        o_m = i_m + tl.arange(0, BLOCK_M)
        b_index = tl.load(index_ptr + o_m, mask=o_m < M, other=NO_ROW).to(tl.int32)
        b_place += tl.sum((b_index[None, :] < o_n[:, None]).to(tl.int32), axis=1)
    for i_m in range(0, M, BLOCK_M):
        o_m = i_m + tl.arange(0, BLOCK_M)
        b_index = tl.load(index_ptr + o_m, mask=o_m < M, other=NO_ROW).to(tl.int32)
        m_own = b_index[None, :] == o_n[:, None]
        b_rank = tl.cumsum(m_own.to(tl.int32), axis=1)
        b_step = tl.zeros([BLOCK_N, BLOCK_M], tl.int32) + o_m[None, :]
        tl.store(order_ptr + b_place[:, None] + b_rank - 1, b_step, mask=m_own)
        b_place += tl.sum(m_own.to(tl.int32), axis=1)
    tl.store(ends_ptr + o_n, b_place, mask=o_n < N)


@triton.jit(do_not_specialize=["M", "N"])
def row_sums_kernel(
    grad_ptr,
    order_ptr,
    ends_ptr,
    sums_ptr,
    M,
    N,
    D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    i_n = tl.program_id(0).to(tl.int64)
    i_group = tl.program_id(2).to(tl.int64)
    o_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    m_d = o_d < D
    first = tl.load(ends_ptr + i_n - 1, mask=i_n > 0, other=0)
    end = tl.load(ends_ptr + i_n)
    b_sum = tl.zeros([BLOCK_R, BLOCK_D], tl.float32)
    for i_r in range(first, end, BLOCK_R):
        o_r = i_r + tl.arange(0, BLOCK_R)
        m_r = o_r < end
        b_step = i_group * M + tl.load(order_ptr + o_r, mask=m_r, other=0)
        m_x = m_r[:, None] & m_d[None, :]
        b_grad = tl.load(grad_ptr + b_step[:, None] * D + o_d[None, :], mask=m_x, other=0.0)
        b_sum += b_grad.to(tl.float32)
    p_sum = sums_ptr + (i_group * N + i_n) * D + o_d
    tl.store(p_sum, tl.sum(b_sum, axis=0).to(sums_ptr.dtype.element_ty), mask=m_d)


def row_sums(
    grad: torch.Tensor, index: torch.Tensor, groups: int, n: int, dtype: torch.dtype
) -> torch.Tensor:
    """Launch on contiguous tensors: the sums [groups, n, D] of grad in `dtype`."""
    steps, width = len(index), grad.shape[1]
    sums = grad.new_empty(groups, n, width, dtype=dtype)
    if sums.numel() == 0 or steps == 0:
        return sums.zero_()
    order, ends = (index.new_empty(size, dtype=torch.int32) for size in (steps, n))
    block_d = min(MOST_COLUMNS, triton.next_power_of_2(max(width, 16)))
    with on_device_of(grad):
        row_order_kernel[(triton.cdiv(n, ORDER_ROWS),)](
            index, order, ends, steps, n, BLOCK_N=ORDER_ROWS, BLOCK_M=ORDER_STEPS, num_warps=4
        )
        row_sums_kernel[(n, triton.cdiv(width, block_d), groups)](
            grad,
            order,
            ends,
            sums,
            steps,
            n,
            D=width,
            BLOCK_R=SUMMED,
            BLOCK_D=block_d,
            num_warps=4,
        )
    return sums
