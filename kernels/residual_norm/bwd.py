"""Gradients of LN(residual + dropout(x)) * weight + bias.

Shapes    dout, total [G * N, d];  mean, rstd [G * N] fp32;  weight [G, d];  seed [1 or 2] int64
Returns   dx, dresidual [G * N, d] in total's dtype; dweight, dbias and, if wanted, the column sums
          of dx (the bias gradient of a linear map that made x) [G, d] fp32
Memory    reads dout and total once, writes dresidual and (with dropout) dx once
Order     each program walks every PROGRAMS-th block of rows of its group and leaves one partial sum
          of each; a second pass adds the partial sums. No atomics: equal runs are equal bit for bit
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.dropout.reference import kept_scale, threshold, with_first
from odmt_fast.kernels.launch.device import device_of, on_device_of
from odmt_fast.kernels.launch.tuning import tuned
from odmt_fast.kernels.residual_norm.configs import (
    RowConfig,
    backward_programs,
    candidates,
    reviewed,
)
from odmt_fast.kernels.residual_norm.fwd import keep_rows


@triton.jit(do_not_specialize=["N", "limit"], do_not_specialize_on_alignment=["seed_ptr"])
def residual_norm_bwd_kernel(
    dout_ptr,
    total_ptr,
    mean_ptr,
    rstd_ptr,
    weight_ptr,
    seed_ptr,
    dx_ptr,
    dresidual_ptr,
    partial_ptr,  # fp32 [2 or 3, G, PROGRAMS, D]
    N,
    limit,
    inv_keep,
    D: tl.constexpr,
    DROPOUT: tl.constexpr,
    SUM_DX: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
    STAGES: tl.constexpr,
):
    i_program = tl.program_id(0).to(tl.int64)
    i_group = tl.program_id(1).to(tl.int64)
    n_programs = tl.num_programs(0)
    n_groups = tl.num_programs(1)
    o_d = tl.arange(0, BLOCK_D)
    m_d = o_d < D
    b_weight = tl.load(weight_ptr + i_group * D + o_d, mask=m_d, other=0.0).to(tl.float32)
    b_dweight = tl.zeros([BLOCK_D], tl.float32)
    b_dbias = tl.zeros([BLOCK_D], tl.float32)
    b_dx_sum = tl.zeros([BLOCK_D], tl.float32)
    for i_block in tl.range(i_program, tl.cdiv(N, BLOCK_R), n_programs, num_stages=STAGES):
        o_n = i_block * BLOCK_R + tl.arange(0, BLOCK_R)
        o_row = i_group * N + o_n
        m_row = o_n < N
        m_x = m_row[:, None] & m_d[None, :]
        o_x = o_row[:, None] * D + o_d[None, :]
        b_dout = tl.load(dout_ptr + o_x, mask=m_x, other=0.0).to(tl.float32)
        b_total = tl.load(total_ptr + o_x, mask=m_x, other=0.0).to(tl.float32)
        b_mean = tl.load(mean_ptr + o_row, mask=m_row, other=0.0)
        b_rstd = tl.load(rstd_ptr + o_row, mask=m_row, other=0.0)
        b_normal = tl.where(m_x, (b_total - b_mean[:, None]) * b_rstd[:, None], 0.0)
        b_dnormal = b_dout * b_weight[None, :]
        b_along = tl.sum(b_dnormal * b_normal, axis=1) / D
        b_offset = tl.sum(b_dnormal, axis=1) / D
        b_dtotal = b_dnormal - b_offset[:, None] - b_normal * b_along[:, None]
        b_dtotal = b_dtotal * b_rstd[:, None]
        tl.store(dresidual_ptr + o_x, b_dtotal.to(dresidual_ptr.dtype.element_ty), mask=m_x)
        if DROPOUT:
            m_keep = keep_rows(seed_ptr, i_group, o_n, limit, D, BLOCK_R, BLOCK_D)
            b_dx = tl.where(m_keep, b_dtotal * inv_keep, 0.0)
            tl.store(dx_ptr + o_x, b_dx.to(dx_ptr.dtype.element_ty), mask=m_x)
        else:
            b_dx = b_dtotal
        if SUM_DX:
            b_dx_sum += tl.sum(tl.where(m_x, b_dx, 0.0), axis=0)
        b_dweight += tl.sum(b_dout * b_normal, axis=0)
        b_dbias += tl.sum(b_dout, axis=0)
    p_partial = partial_ptr + (i_group * n_programs + i_program) * D + o_d
    tl.store(p_partial, b_dweight, mask=m_d)
    tl.store(p_partial + n_groups * n_programs * D, b_dbias, mask=m_d)
    if SUM_DX:
        tl.store(p_partial + 2 * n_groups * n_programs * D, b_dx_sum, mask=m_d)


def residual_norm_bwd(
    dout: torch.Tensor,
    total: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor,
    p: float,
    seed: torch.Tensor | None,
    *,
    sum_dx: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launch on contiguous tensors. Returns (dx, dresidual, sums).

    Without dropout dx and dresidual are the same tensor. The sums are fp32 [2 or 3, *weight.shape]:
    dweight, dbias and, if asked, the column sums of dx in each group.
    """
    rows, d = total.shape
    groups = 1 if weight.dim() == 1 else weight.shape[0]
    dresidual = torch.empty_like(total)
    dx = torch.empty_like(total) if p > 0.0 else dresidual
    kinds = 3 if sum_dx else 2
    if rows == 0:
        return dx, dresidual, weight.new_zeros(kinds, *weight.shape, dtype=torch.float32)
    block_d, seed = triton.next_power_of_2(max(d, 16)), with_first(seed)
    device = device_of(total)

    def launch(config: RowConfig) -> torch.Tensor:
        programs = backward_programs(config, rows // groups, groups, device)
        partial = torch.empty(
            (kinds, groups, programs, d), dtype=torch.float32, device=total.device
        )
        residual_norm_bwd_kernel[(programs, groups)](
            dout,
            total,
            mean,
            rstd,
            weight,
            seed,
            dx,
            dresidual,
            partial,
            rows // groups,
            threshold(p),
            kept_scale(p),
            D=d,
            DROPOUT=p > 0.0,
            SUM_DX=sum_dx,
            BLOCK_R=config.block_rows,
            BLOCK_D=block_d,
            STAGES=config.stages,
            num_warps=config.num_warps,
        )
        return partial

    with on_device_of(total):
        key = f"residual_norm_bwd {total.dtype} d<={block_d} dropout={p > 0.0}"
        partial = launch(tuned(key, reviewed(block_d), lambda: candidates(block_d), launch))
        return dx, dresidual, partial.sum(2).view(kinds, *weight.shape)
