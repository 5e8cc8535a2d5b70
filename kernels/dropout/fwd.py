"""Dropout, forward and backward alike (the gradient of dropout is dropout of the gradient).

Shapes    x [G * n] contiguous: fp32 | bf16 | fp16;  seed [1] int64
Returns   y [G * n], x's dtype
Memory    one read and one write of every element; the mask is never stored
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.dropout.configs import REVIEWED, DropoutConfig, candidates
from odmt_fast.kernels.dropout.philox import GROUP, keep_of_quads
from odmt_fast.kernels.dropout.reference import kept_scale, threshold
from odmt_fast.kernels.launch.device import on_device_of
from odmt_fast.kernels.launch.tuning import tuned


# n is specialised: loads are 16 bytes wide where it is known to be a multiple of 16, as rows of a
# width that is one always make it.
@triton.jit(do_not_specialize=["limit"], do_not_specialize_on_alignment=["seed_ptr"])
def dropout_kernel(x_ptr, y_ptr, seed_ptr, n, limit, inv_keep, BLOCK_Q: tl.constexpr):
    i_block = tl.program_id(0).to(tl.int64)
    i_group = tl.program_id(1).to(tl.int64)
    o_quad = i_group * (GROUP // 4) + i_block * BLOCK_Q + tl.arange(0, BLOCK_Q)  # [BLOCK_Q]
    c_lo = (o_quad & 0xFFFFFFFF).to(tl.uint32)
    c_hi = (o_quad >> 32).to(tl.uint32)
    m_keep = keep_of_quads(tl.load(seed_ptr), c_lo, c_hi, limit)  # [4 BLOCK_Q]
    o_x = i_block * (4 * BLOCK_Q) + tl.arange(0, 4 * BLOCK_Q)
    m_x = o_x < n
    o_x += i_group * n
    b_x = tl.load(x_ptr + o_x, mask=m_x, other=0.0).to(tl.float32)
    b_y = tl.where(m_keep, b_x * inv_keep, 0.0)
    tl.store(y_ptr + o_x, b_y.to(y_ptr.dtype.element_ty), mask=m_x)


def dropout_fwd(x: torch.Tensor, p: float, seed: torch.Tensor, groups: int) -> torch.Tensor:
    """Launch on contiguous x; see `op.dropout`."""
    y, n = torch.empty_like(x), x.numel() // groups
    if n == 0:
        return y

    def launch(config: DropoutConfig) -> None:
        grid = (triton.cdiv(n, 4 * config.block_quads), groups)
        dropout_kernel[grid](
            x,
            y,
            seed,
            n,
            threshold(p),
            kept_scale(p),
            BLOCK_Q=config.block_quads,
            num_warps=config.num_warps,
        )

    with on_device_of(x):
        key = f"dropout {x.dtype} n<={triton.next_power_of_2(n)}"
        launch(tuned(key, REVIEWED, candidates, launch))
    return y
