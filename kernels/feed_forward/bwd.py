"""Backward of H = relu(x U^T + a) but for the products: dH where H > 0, and da = sum_rows dH.

Shapes    dhidden, hidden [G * N, h]: fp32 | bf16 | fp16
Returns   da [G, h] fp32; dhidden is overwritten
Memory    reads dhidden and hidden once, writes dhidden once; torch's threshold_backward and sum
          read dhidden once more
Order     each program walks every STRIPS-th block of rows of its group and leaves one partial sum;
          a second pass adds them. No atomics: equal runs are equal bit for bit
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.feed_forward.configs import REVIEWED, strips
from odmt_fast.kernels.launch.device import device_of, on_device_of


@triton.jit(do_not_specialize=["N"])
def relu_bwd_kernel(
    dhidden_ptr,
    hidden_ptr,
    partial_ptr,  # fp32 [G, STRIPS, H]
    N,
    H: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    i_strip = tl.program_id(0)
    i_group = tl.program_id(2).to(tl.int64)
    n_strips = tl.num_programs(0)
    o_h = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    m_h = o_h < H
    b_bias = tl.zeros([BLOCK_N, BLOCK_H], tl.float32)
    for i_block in range(i_strip, tl.cdiv(N, BLOCK_N), n_strips):
        o_n = i_block * BLOCK_N + tl.arange(0, BLOCK_N)
        o = (i_group * N + o_n)[:, None] * H + o_h[None, :]
        m = (o_n < N)[:, None] & m_h[None, :]
        b_hidden = tl.load(hidden_ptr + o, mask=m, other=0.0).to(tl.float32)
        b_dhidden = tl.load(dhidden_ptr + o, mask=m, other=0.0).to(tl.float32)
        b_dhidden = tl.where(b_hidden <= 0.0, 0.0, b_dhidden)  # a NaN passes, as in torch
        tl.store(dhidden_ptr + o, b_dhidden.to(dhidden_ptr.dtype.element_ty), mask=m)
        b_bias += b_dhidden  # summed once, behind the loop: threads need not wait for each other
    tl.store(
        partial_ptr + (i_group * n_strips + i_strip) * H + o_h, tl.sum(b_bias, axis=0), mask=m_h
    )


def relu_bwd(dhidden: torch.Tensor, hidden: torch.Tensor, groups: int) -> torch.Tensor:
    """Launch on contiguous tensors with rows. Returns da [G, h] fp32."""
    rows, width = hidden.shape
    config = REVIEWED
    n_strips = strips(config, rows // groups, width, groups, device_of(hidden))
    partial = hidden.new_empty(groups, n_strips, width, dtype=torch.float32)
    with on_device_of(hidden):
        relu_bwd_kernel[(n_strips, triton.cdiv(width, config.block_columns), groups)](
            dhidden,
            hidden,
            partial,
            rows // groups,
            H=width,
            BLOCK_N=config.block_rows,
            BLOCK_H=config.block_columns,
            num_warps=config.num_warps,
        )
        return partial.sum(1)
