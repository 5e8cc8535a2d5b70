"""Row statistics of the distilled softmax and the losses, forward; logits stay in registers.

Shapes    queries [K, M, D], items [K, U, D]: fp32 | bf16 | fp16; candidates as `prepared`
Returns   ce [K], kd [E] fp32; stats: W x M fp32, rows as in `spec.stats_width`
Method    a program owns BLOCK_M rows and walks a share of the columns, keeping per row and branch
          the largest score and, relative to it, the sums of the README, rescaled when it rises,
          the cross terms around the student's score at the teacher's top column; a second kernel
          joins the shares of a row
Memory    [M, U] is never written; partial results are `partial_width` x M per share
Source    ODMT, arXiv 2308.04067; official model/model.py::kd_ce_loss
"""

import torch
import triton
import triton.language as tl

from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.distilled_softmax.configs import (
    TileConfig,
    forward_config,
    score_candidates,
    shares,
    tile_arguments,
)
from odmt_fast.kernels.distilled_softmax.row_state import (
    cross_place,
    empty_rows,
    joined,
    load_rows,
    partial_width,
    soft_place,
    store_rows,
    sum_place,
    with_tile,
)
from odmt_fast.kernels.distilled_softmax.spec import Distillation, Spec, stats_width
from odmt_fast.kernels.distilled_softmax.tile import row_facts, tile_scores, tile_weights
from odmt_fast.kernels.launch.device import device_of, dot_precision, on_device_of
from odmt_fast.kernels.launch.tuning import tuned


@triton.jit(do_not_specialize=["M", "U", "share_n", "inv_tau"])
def distilled_softmax_fwd_kernel(
    queries_ptr,
    items_ptr,
    log_p_ptr,
    counts_ptr,
    target_ptr,
    row_user_ptr,
    history_offsets_ptr,
    history_ptr,
    partial_ptr,
    M,
    U,
    share_n,
    inv_tau,
    D: tl.constexpr,
    K: tl.constexpr,
    SOFT: tl.constexpr,
    STUDENTS: tl.constexpr,
    TEACHERS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    i_share = tl.program_id(1)
    start_m = tl.program_id(0) * BLOCK_M
    o_m = start_m + tl.arange(0, BLOCK_M)
    b_target, p_begin, p_end = row_facts(target_ptr, row_user_ptr, history_offsets_ptr, o_m, M)
    rows = empty_rows(K, len(STUDENTS), BLOCK_M)
    for start_n in tl.range(
        i_share * share_n, tl.minimum((i_share + 1) * share_n, U), BLOCK_N, disable_licm=True
    ):
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
        rows = with_tile(rows, z, b_w, m_target, inv_tau, K, SOFT, STUDENTS, TEACHERS)
    p_out = partial_ptr + i_share.to(tl.int64) * partial_width(K, len(STUDENTS)) * M + o_m
    store_rows(p_out, rows, o_m < M, M, K, len(STUDENTS))


@triton.jit(do_not_specialize=["M", "n_shares", "inv_tau", "tau"])
def distilled_softmax_join_kernel(
    partial_ptr,
    stats_ptr,
    terms_ptr,
    M,
    n_shares,
    inv_tau,
    tau,
    K: tl.constexpr,
    STUDENTS: tl.constexpr,
    TEACHERS: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    E: tl.constexpr = len(STUDENTS)
    o_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    m_m = o_m < M
    p_in = partial_ptr + o_m
    rows = load_rows(p_in, m_m, M, K, E)
    for _ in range(1, n_shares):
        p_in += partial_width(K, E) * M.to(tl.int64)
        more = load_rows(p_in, m_m, M, K, E)
        rows = joined(rows, more, inv_tau, K, TEACHERS)
    top, sums, soft, centre, cross, target = rows
    p_stats = stats_ptr + o_m
    p_terms = terms_ptr + o_m
    for t in tl.static_range(K + 1):
        tl.store(p_stats + t * M, top[t], mask=m_m)
        tl.store(p_stats + soft_place(t, K) * M, soft[t], mask=m_m)
    for k in tl.static_range(K):
        tl.store(p_stats + sum_place(k, K) * M, sums[k], mask=m_m)
        tl.store(p_terms + k * M, tl.log(sums[k]) - (target[k] - top[k]), mask=m_m)
    for e in tl.static_range(E):
        b_cross = (centre[e] - top[STUDENTS[e]]) + cross[e] / soft[TEACHERS[e]]
        tl.store(p_stats + cross_place(STUDENTS[e], TEACHERS[e], K) * M, b_cross, mask=m_m)
        b_kd = tau * (tau * tl.log(soft[STUDENTS[e]]) - b_cross)
        tl.store(p_terms + (K + e) * M, b_kd, mask=m_m)


def distilled_softmax_fwd(
    queries: torch.Tensor,
    items: torch.Tensor,
    candidates: Candidates,
    spec: Spec,
    row_scale: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Launch on contiguous tensors, M >= 1. Returns (ce, kd, stats)."""
    branches, n_rows, width = queries.shape
    n_columns = items.shape[1]
    distillation = Distillation.of(spec.edges, branches)
    device, pairs = device_of(queries), len(distillation.students)
    stats = queries.new_empty((n_rows, stats_width(branches)), dtype=torch.float32)
    terms = queries.new_empty((branches + pairs, n_rows), dtype=torch.float32)
    edges = {"STUDENTS": distillation.students, "TEACHERS": distillation.teachers}

    def launch(config: TileConfig) -> torch.Tensor:
        n_shares, share_n = shares(n_rows, n_columns, config, device)
        partial_shape = (n_shares, partial_width(branches, pairs), n_rows)
        partial = queries.new_empty(partial_shape, dtype=torch.float32)
        distilled_softmax_fwd_kernel[(triton.cdiv(n_rows, config.block_m), n_shares)](
            queries,
            items,
            *candidates,
            partial,
            n_rows,
            n_columns,
            share_n,
            1.0 / spec.tau,
            D=width,
            K=branches,
            SOFT=distillation.softened,
            PRECISION=dot_precision(queries),
            **tile_arguments(width, config),
            **edges,
        )
        return partial

    with on_device_of(queries):
        reviewed = forward_config(queries)
        key = f"distilled_softmax_fwd {queries.dtype} K={branches} E={pairs} D={width}"
        partial = launch(tuned(key, reviewed, lambda: score_candidates(reviewed), launch))
        distilled_softmax_join_kernel[(triton.cdiv(n_rows, 128),)](
            partial,
            stats,
            terms,
            n_rows,
            partial.shape[0],
            1.0 / spec.tau,
            spec.tau,
            K=branches,
            BLOCK_M=128,
            num_warps=4,
            **edges,
        )
    losses = terms.mean(1) if row_scale is None else (terms * row_scale.float()).sum(1)
    kd = [losses[branches + e] for e in distillation.edge_to_pair]
    return losses[:branches].clone(), torch.stack(kd) if kd else losses.new_empty(0), stats
