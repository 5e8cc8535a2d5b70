"""Where the tokens of items lie side by side, and the rows there with dropout, or back.

Shapes    ends [M, U] int64, tokens of the items so far, per modality;  x, y [L, D]: fp32 | bf16 |
          fp16;  sources [L] int64;  seed [1 or 2] int64
Returns   cu_seqlens [U + 1] int32, readouts [U, M + 1] int64, sources: row t of the packed tokens
          is row sources[t] of the tokens modality after modality, the ID tokens last
Memory    the layout writes 8 bytes a token; moving the rows reads and writes every element once,
          and the mask is never stored
Order     a program an item, a program some rows; every number is written once
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.dropout.reference import kept_scale, threshold, with_first
from odmt_fast.kernels.item_tokens.configs import (
    LAYOUT_TOKENS,
    LAYOUT_WARPS,
    rows_of_a_program,
)
from odmt_fast.kernels.launch.device import on_device_of
from odmt_fast.kernels.residual_norm.fwd import keep_rows


@triton.jit(do_not_specialize=["U"])
def item_layout_kernel(
    ends_ptr, cu_ptr, readouts_ptr, sources_ptr, U, M: tl.constexpr, BLOCK_T: tl.constexpr
):
    i_item = tl.program_id(0).to(tl.int64)
    place = i_item  # of the next token: an ID token of every item before, and what follows
    for m in tl.static_range(M):
        place += tl.load(ends_ptr + m * U + i_item - 1, mask=i_item > 0, other=0)
    tl.store(cu_ptr + i_item, place.to(tl.int32))
    group = i_item * 0  # where the tokens of the modality begin
    for m in tl.static_range(M):
        before = tl.load(ends_ptr + m * U + i_item - 1, mask=i_item > 0, other=0)
        length = tl.load(ends_ptr + m * U + i_item) - before
        tl.store(readouts_ptr + i_item * (M + 1) + m, place)
        for i_t in range(0, length, BLOCK_T):
            o_t = i_t + tl.arange(0, BLOCK_T)
            tl.store(sources_ptr + place + o_t, group + before + o_t, mask=o_t < length)
        place += length
        group += tl.load(ends_ptr + m * U + U - 1)
    tl.store(readouts_ptr + i_item * (M + 1) + M, place)
    tl.store(sources_ptr + place, group + i_item)
    if i_item == U - 1:
        tl.store(cu_ptr + U, (place + 1).to(tl.int32))


@triton.jit(do_not_specialize=["L", "limit"], do_not_specialize_on_alignment=["seed_ptr"])
def item_rows_kernel(
    x_ptr,
    y_ptr,
    sources_ptr,
    seed_ptr,
    L,
    limit,
    inv_keep,
    D: tl.constexpr,
    DROPOUT: tl.constexpr,
    BACK: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    o_t = tl.program_id(0).to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)
    o_d = tl.arange(0, BLOCK_D)
    m_t = o_t < L
    m_x = m_t[:, None] & (o_d < D)[None, :]
    b_source = tl.load(sources_ptr + o_t, mask=m_t, other=0)
    if BACK:
        o_x, o_y = o_t, b_source
    else:
        o_x, o_y = b_source, o_t
    b_x = tl.load(x_ptr + o_x[:, None] * D + o_d[None, :], mask=m_x, other=0.0)
    if DROPOUT:
        # The element is that of the packed row, there and back.
        m_keep = keep_rows(seed_ptr, 0, o_t, limit, D, BLOCK_R, BLOCK_D)
        b_kept = tl.where(m_keep, b_x.to(tl.float32) * inv_keep, 0.0)
        b_x = b_kept.to(x_ptr.dtype.element_ty)
    tl.store(y_ptr + o_y[:, None] * D + o_d[None, :], b_x, mask=m_x)


def item_layout(
    lengths: tuple[torch.Tensor, ...], tokens: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(cu_seqlens, readouts, sources) of U >= 1 items with `tokens` in all, ID tokens included."""
    ends = torch.stack(lengths).cumsum(1)
    modalities, items = ends.shape
    cu_seqlens = ends.new_empty(items + 1, dtype=torch.int32)
    readouts, sources = ends.new_empty(items, modalities + 1), ends.new_empty(tokens)
    with on_device_of(ends):
        item_layout_kernel[(items,)](
            ends,
            cu_seqlens,
            readouts,
            sources,
            items,
            M=modalities,
            BLOCK_T=LAYOUT_TOKENS,
            num_warps=LAYOUT_WARPS,
        )
    return cu_seqlens, readouts, sources


def item_rows(
    x: torch.Tensor, sources: torch.Tensor, p: float, seed: torch.Tensor | None, *, back: bool
) -> torch.Tensor:
    """y_t = dropout(x_sources[t]), or back: y_sources[t] = dropout(x_t); contiguous x [L, d]."""
    (tokens, d), y = x.shape, torch.empty_like(x)
    block_d, seed = triton.next_power_of_2(max(d, 16)), with_first(seed)
    rows, warps = rows_of_a_program(block_d)
    with on_device_of(x):
        item_rows_kernel[(triton.cdiv(tokens, rows),)](
            x,
            y,
            sources,
            seed,
            tokens,
            threshold(p),
            kept_scale(p),
            D=d,
            DROPOUT=p > 0.0,
            BACK=back,
            BLOCK_R=rows,
            BLOCK_D=block_d,
            num_warps=warps,
        )
    return y
