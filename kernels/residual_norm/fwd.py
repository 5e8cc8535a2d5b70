"""out = LN(residual + dropout(x)) * weight + bias, forward.

Shapes    x, residual [G * N, d]: fp32 | bf16 | fp16;  weight, bias [G, d];  seed [1] int64
Returns   out, total [G * N, d] in x's dtype; mean, rstd [G * N] fp32
Memory    reads x and residual once, writes out and total once (total is what the backward reads)
Numerics  total is rounded to its dtype before the statistics, so that the backward, which reads it
          back, normalises the same numbers; the variance is the mean of squared differences
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.dropout.philox import GROUP, keep_of_elements, keep_of_quads
from odmt_fast.kernels.dropout.reference import kept_scale, threshold
from odmt_fast.kernels.launch.device import on_device_of
from odmt_fast.kernels.launch.tuning import tuned
from odmt_fast.kernels.residual_norm.configs import RowConfig, candidates, reviewed


@triton.jit
def keep_rows(
    seed, i_group, o_n, limit, D: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_D: tl.constexpr
):  # -> bool [BLOCK_R, BLOCK_D]
    """The mask of rows o_n int64 [BLOCK_R] of a group. Element = group, then row * D + column."""
    if D % 4 == 0:
        b_first = i_group * (GROUP // 4) + o_n * (D // 4)
        o_quad = b_first[:, None] + tl.arange(0, BLOCK_D // 4)[None, :]
        c_lo = (o_quad & 0xFFFFFFFF).to(tl.uint32)
        m_keep = keep_of_quads(seed, c_lo, (o_quad >> 32).to(tl.uint32), limit)
    else:
        b_first = i_group * GROUP + o_n * D
        m_keep = keep_of_elements(seed, b_first[:, None] + tl.arange(0, BLOCK_D)[None, :], limit)
    return m_keep


@triton.jit(do_not_specialize=["N", "limit"], do_not_specialize_on_alignment=["seed_ptr"])
def residual_norm_fwd_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    bias_ptr,
    seed_ptr,
    out_ptr,
    total_ptr,
    mean_ptr,
    rstd_ptr,
    N,
    eps,
    limit,
    inv_keep,
    D: tl.constexpr,
    DROPOUT: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    i_group = tl.program_id(1).to(tl.int64)
    o_n = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)  # row within the group
    o_row = i_group * N + o_n
    o_d = tl.arange(0, BLOCK_D)
    m_row = o_n < N
    m_d = o_d < D
    m_x = m_row[:, None] & m_d[None, :]
    o_x = o_row[:, None] * D + o_d[None, :]
    b_x = tl.load(x_ptr + o_x, mask=m_x, other=0.0).to(tl.float32)
    if DROPOUT:
        m_keep = keep_rows(tl.load(seed_ptr), i_group, o_n, limit, D, BLOCK_R, BLOCK_D)
        b_x = tl.where(m_keep, b_x * inv_keep, 0.0).to(x_ptr.dtype.element_ty).to(tl.float32)
    b_residual = tl.load(residual_ptr + o_x, mask=m_x, other=0.0).to(tl.float32)
    b_rounded = (b_residual + b_x).to(total_ptr.dtype.element_ty)
    tl.store(total_ptr + o_x, b_rounded, mask=m_x)
    b_total = b_rounded.to(tl.float32)
    b_mean = tl.sum(b_total, axis=1) / D
    b_centred = tl.where(m_x, b_total - b_mean[:, None], 0.0)
    b_rstd = 1.0 / tl.sqrt(tl.sum(b_centred * b_centred, axis=1) / D + eps)
    b_weight = tl.load(weight_ptr + i_group * D + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_bias = tl.load(bias_ptr + i_group * D + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_out = b_centred * b_rstd[:, None] * b_weight[None, :] + b_bias[None, :]
    tl.store(out_ptr + o_x, b_out.to(out_ptr.dtype.element_ty), mask=m_x)
    tl.store(mean_ptr + o_row, b_mean, mask=m_row)
    tl.store(rstd_ptr + o_row, b_rstd, mask=m_row)


def residual_norm_fwd(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    p: float,
    seed: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launch on contiguous tensors; see `op.residual_norm`. Returns (out, total, mean, rstd)."""
    rows, d = x.shape
    groups = 1 if weight.dim() == 1 else weight.shape[0]
    out, total = torch.empty_like(x), torch.empty_like(x)
    mean, rstd = (x.new_empty(rows, dtype=torch.float32) for _ in range(2))
    if rows == 0:
        return out, total, mean, rstd
    block_d = triton.next_power_of_2(max(d, 16))

    def launch(config: RowConfig) -> None:
        grid = (triton.cdiv(rows // groups, config.block_rows), groups)
        residual_norm_fwd_kernel[grid](
            x,
            residual,
            weight,
            bias,
            seed,
            out,
            total,
            mean,
            rstd,
            rows // groups,
            eps,
            threshold(p),
            kept_scale(p),
            D=d,
            DROPOUT=p > 0.0,
            BLOCK_R=config.block_rows,
            BLOCK_D=block_d,
            num_warps=config.num_warps,
        )

    with on_device_of(x):
        key = f"residual_norm_fwd {x.dtype} d<={block_d} dropout={p > 0.0}"
        launch(tuned(key, reviewed(block_d), lambda: candidates(block_d), launch))
    return out, total, mean, rstd
