"""Gradients of queries and items of the distilled softmax, a panel of rows at a time.

Shapes    queries [K, M, D], items [K, U, D], stats W x M from the forward; g_ce [K], g_kd [E] fp32
Returns   d(queries) in the inputs' dtype; d(items), in fp32 where it is summed over several panels
Method    per panel of rows: one kernel computes its scores again and writes the gradient of every
          score, [K, panel, U]; then d(queries)_panel = g e by programs that own rows and
          d(items) += g^T q by programs that own columns. K accumulators of [BLOCK_M, D] do not fit
          a multiprocessor at D = 768, so a kernel without the panel would have to compute every
          score D / BLOCK_D times.
Memory    the panel is about as large as the queries: O((M + U) x D) whatever M and U; no atomics
"""

from functools import partial

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.distilled_softmax.configs import (
    TileConfig,
    backward_config,
    panel_rows,
    product_candidates,
    product_config,
    score_candidates,
    tile_arguments,
)
from odmt_fast.kernels.distilled_softmax.row_state import cross_place, soft_place, sum_place
from odmt_fast.kernels.distilled_softmax.spec import Distillation, Spec
from odmt_fast.kernels.distilled_softmax.tile import (
    exponentials,
    inv_tau_of,
    row_facts,
    score_of,
    tile_scores,
    tile_weights,
)
from odmt_fast.kernels.launch.device import dot_precision, on_device_of
from odmt_fast.kernels.launch.tuning import tuned


@triton.jit(do_not_specialize=["M", "U", "first_m", "panel_m", "inv_tau", "tau"])
def distilled_softmax_bwd_kernel(
    queries_ptr,
    items_ptr,
    log_p_ptr,
    counts_ptr,
    target_ptr,
    row_user_ptr,
    history_offsets_ptr,
    history_ptr,
    row_scale_ptr,
    stats_ptr,
    g_ce_ptr,
    g_pair_ptr,
    gradient_ptr,
    M,
    U,
    first_m,
    panel_m,
    stride_gk,
    stride_gm,
    inv_tau,
    tau,
    D: tl.constexpr,
    K: tl.constexpr,
    SOFT: tl.constexpr,
    STUDENTS: tl.constexpr,
    TEACHERS: tl.constexpr,
    TEACH: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    start_n = tl.program_id(1) * BLOCK_N
    start_panel = tl.program_id(0) * BLOCK_M
    start_m = first_m + start_panel
    o_m = start_m + tl.arange(0, BLOCK_M)
    m_m = o_m < M
    b_target, p_begin, p_end = row_facts(target_ptr, row_user_ptr, history_offsets_ptr, o_m, M)
    b_scale = tl.load(row_scale_ptr + o_m, mask=m_m, other=0.0)
    z = tile_scores(
        queries_ptr,
        items_ptr,
        log_p_ptr,
        start_m,
        start_n,
        M,
        U,
        D,
        K,
        BLOCK_M,
        BLOCK_N,
        BLOCK_D,
        PRECISION,
    )
    b_w = tile_weights(
        counts_ptr, history_ptr, b_target, p_begin, p_end, start_n, U, BLOCK_M, BLOCK_N
    )
    m_target = (start_n + tl.arange(0, BLOCK_N))[None, :] == b_target[:, None]
    p_stats = stats_ptr + o_m
    top, gradients = (), ()
    for t in tl.static_range(K + 1):
        top = top + (tl.load(p_stats + t * M, mask=m_m, other=0.0),)
    for k in tl.static_range(K):
        b_g_ce = tl.load(g_ce_ptr + k) * b_scale
        b_sum = tl.load(p_stats + sum_place(k, K) * M, mask=m_m, other=1.0)
        b_g = exponentials(b_w, z[k], top[k], 1.0) * (b_g_ce / b_sum)[:, None]
        gradients = gradients + (tl.where(m_target, b_g - b_g_ce[:, None], b_g),)
    for t in tl.static_range(K + 1):
        if SOFT[t]:
            b_soft = tl.load(p_stats + soft_place(t, K) * M, mask=m_m, other=1.0)
            b_p = exponentials(b_w, score_of(z, t, K), top[t], inv_tau_of(inv_tau, t, K))
            b_p *= (tau * b_scale / b_soft)[:, None]
            for e in tl.static_range(len(STUDENTS)):
                g_pair = tl.load(g_pair_ptr + e)
                new = ()
                if TEACHERS[e] == t:
                    p_cross = p_stats + cross_place(STUDENTS[e], TEACHERS[e], K) * M
                    b_cross = tl.load(p_cross, mask=m_m, other=0.0)
                    b_x = (z[STUDENTS[e]] - top[STUDENTS[e]][:, None]) - b_cross[:, None]
                    b_teach = g_pair * inv_tau * b_p * b_x
                for k in tl.static_range(K):
                    b_g = gradients[k]
                    if STUDENTS[e] == k and t == k:
                        b_g += g_pair * b_p
                    if TEACHERS[e] == t:
                        if STUDENTS[e] == k:
                            b_g -= g_pair * b_p
                        if TEACH and t == k:
                            b_g -= b_teach
                        if TEACH and t == K:
                            b_g -= b_teach * (1.0 / K)
                    new = new + (b_g,)
                gradients = new
    o_panel = (start_panel + tl.arange(0, BLOCK_M)).to(tl.int64)
    o_n = start_n + tl.arange(0, BLOCK_N)
    m_out = (o_panel < panel_m)[:, None] & (o_n < U)[None, :]
    for k in tl.static_range(K):
        p_g = gradient_ptr + k * stride_gk.to(tl.int64)
        p_out = p_g + o_panel[:, None] * stride_gm + o_n[None, :]
        tl.store(p_out, gradients[k].to(gradient_ptr.dtype.element_ty), mask=m_out)


@triton.jit(do_not_specialize=["I", "L", "stride_ab", "stride_bb", "stride_cb"])
def panel_product_kernel(
    a_ptr,
    b_ptr,
    c_ptr,
    I,
    L,
    stride_ab,
    stride_ai,
    stride_al,
    stride_bb,
    stride_cb,
    D: tl.constexpr,
    ADD: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_I: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """c[k] (+)= a[k] b[k] with a [I, L] of any strides, b [L, D] and c [I, D] row-major."""
    i_k = tl.program_id(2).to(tl.int64)
    o_i = tl.program_id(0).to(tl.int64) * BLOCK_I + tl.arange(0, BLOCK_I)
    o_d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    m_i, m_d = o_i < I, o_d < D
    # One of a's strides is 1, the other a multiple of 16: the compiler is told by the arguments.
    p_a = a_ptr + i_k * stride_ab + o_i[:, None] * stride_ai
    p_b = b_ptr + i_k * stride_bb + o_d[None, :]
    p_c = c_ptr + i_k * stride_cb + o_i[:, None] * D + o_d[None, :]
    m_c = m_i[:, None] & m_d[None, :]
    b_c = tl.zeros((BLOCK_I, BLOCK_D), tl.float32)
    for start_l in range(0, L, BLOCK_L):
        o_l = start_l + tl.arange(0, BLOCK_L).to(tl.int64)
        m_l = o_l < L
        b_a = tl.load(p_a + o_l[None, :] * stride_al, mask=m_i[:, None] & m_l[None, :], other=0.0)
        b_b = tl.load(p_b + o_l[:, None] * D, mask=m_l[:, None] & m_d[None, :], other=0.0)
        b_c = tl.dot(b_a, b_b, b_c, input_precision=PRECISION)
    if ADD:
        b_c += tl.load(p_c, mask=m_c, other=0.0)
    tl.store(p_c, b_c.to(c_ptr.dtype.element_ty), mask=m_c)


def panel_product(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, *, add: bool) -> None:
    """c = a b, or c += a b in fp32. a [K, I, L] any strides, b [K, L, D] and c [K, I, D] rows."""
    branches, n_i, n_l = a.shape
    width = b.shape[2]

    def launch(config: TileConfig) -> None:
        grid = (triton.cdiv(n_i, config.block_m), triton.cdiv(width, config.block_n), branches)
        panel_product_kernel[grid](
            a,
            b,
            c,
            n_i,
            n_l,
            a.stride(0),
            a.stride(1),
            a.stride(2),
            b.stride(0),
            c.stride(0),
            D=width,
            ADD=add,
            PRECISION=dot_precision(a),
            BLOCK_I=config.block_m,
            BLOCK_L=config.block_d,
            BLOCK_D=config.block_n,
            num_warps=config.num_warps,
            num_stages=config.num_stages,
        )

    reviewed = product_config(a)
    # A search launches many times; the first panel, whose product nothing is added to, makes it.
    key = f"distilled_softmax_product {a.dtype} K={branches} D={width} {a.stride(2) == 1}"
    launch(tuned(key, reviewed, lambda: product_candidates(reviewed), launch))


def distilled_softmax_bwd(
    upstream: tuple[torch.Tensor, torch.Tensor],
    queries: torch.Tensor,
    items: torch.Tensor,
    candidates: Candidates,
    spec: Spec,
    row_scale: torch.Tensor,
    stats: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Launch on contiguous tensors, M >= 1; g_kd is per edge."""
    branches, n_rows, width = queries.shape
    n_columns = items.shape[1]
    distillation = Distillation.of(spec.edges, branches)
    g_ce, g_kd = upstream
    reviewed = backward_config(queries)
    panel = panel_rows(n_rows, n_columns, width, reviewed)
    # Rows of the panel start at multiples of 16 elements, whatever U is.
    gradient = queries.new_empty((branches, panel, triton.cdiv(n_columns, 16) * 16))
    d_queries = torch.empty_like(queries)
    one_panel = panel >= n_rows
    d_items = torch.empty_like(items, dtype=items.dtype if one_panel else torch.float32)
    g_pair = distillation.per_pair(g_kd)

    def launch(start: int, config: TileConfig) -> None:
        n = min(panel, n_rows - start)
        grid = (triton.cdiv(n, config.block_m), triton.cdiv(n_columns, config.block_n))
        distilled_softmax_bwd_kernel[grid](
            queries,
            items,
            *candidates,
            row_scale,
            stats,
            g_ce,
            g_pair,
            gradient,
            n_rows,
            n_columns,
            start,
            n,
            *gradient.stride()[:2],
            1.0 / spec.tau,
            spec.tau,
            D=width,
            K=branches,
            SOFT=distillation.softened,
            STUDENTS=distillation.students,
            TEACHERS=distillation.teachers,
            TEACH=not spec.detach_teacher,
            PRECISION=dot_precision(queries),
            **tile_arguments(width, config),
        )

    with on_device_of(queries):
        pairs = len(distillation.students)
        key = f"distilled_softmax_bwd {queries.dtype} K={branches} E={pairs} D={width}"
        search = partial(launch, 0)
        config = tuned(key, reviewed, lambda: score_candidates(reviewed), search)
        for start in range(0, n_rows, panel):
            launch(start, config)
            part = slice(start, start + panel)
            own = gradient[:, : min(panel, n_rows - start), :n_columns]
            panel_product(own, items, d_queries[:, part], add=False)
            panel_product(own.transpose(1, 2), queries[:, part], d_items, add=start > 0)
    return d_queries, d_items
