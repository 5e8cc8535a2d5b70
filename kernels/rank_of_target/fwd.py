"""Ranks of targets, a tile of users and items at a time; scores are never stored.

Shapes    queries [K, B, D], items [K, N, D]: fp32 | bf16 | fp16;  targets [B] int64
Returns   ranks, ties [R, B] int64
Memory    two counts for each ranking, user and share of the items
Ties      the target's score comes out of a tile of the same shape, so equal vectors score equally
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from odmt_fast.kernels.launch.catalogue import Excluded
from odmt_fast.kernels.launch.device import device_of, dot_precision, on_device_of
from odmt_fast.kernels.launch.tuning import tuned
from odmt_fast.kernels.rank_of_target.configs import SearchConfig, candidates, reviewed, shares
from odmt_fast.kernels.rank_of_target.reference import Repeats, rankings
from odmt_fast.kernels.rank_of_target.tile import tile_counts, tile_scores


@triton.jit
def target_scores_kernel(
    queries_ptr,
    items_ptr,
    targets_ptr,
    bars_ptr,  # fp32 [R, B]
    B,
    N,
    D: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    start_m = tl.program_id(0) * BLOCK_M
    o_m = start_m + tl.arange(0, BLOCK_M)
    m_m = o_m < B
    o_user = tl.minimum(o_m, B - 1).to(tl.int64)
    b_sum = tl.zeros((BLOCK_M,), tl.float32)
    for k in tl.static_range(K):
        b_own = tl.zeros((BLOCK_M,), tl.float32)
        p_q = queries_ptr + k * B.to(tl.int64) * D
        p_e = items_ptr + k * N.to(tl.int64) * D
        for start in tl.range(0, BLOCK_M, BLOCK_N):
            o_n = start_m + start + tl.arange(0, BLOCK_N)
            b_target = tl.load(targets_ptr + tl.minimum(o_n, B - 1))
            b_z = tile_scores(p_q, p_e, o_user, b_target, D, BLOCK_M, BLOCK_N, BLOCK_D, PRECISION)
            # One of a row is the user's own; the sum of it and zeros is exact.
            b_own += tl.sum(tl.where(o_m[:, None] == o_n[None, :], b_z, 0.0), axis=1)
        tl.store(bars_ptr + k * B.to(tl.int64) + o_m, b_own, mask=m_m)
        b_sum += b_own
    if K > 1:
        tl.store(bars_ptr + K * B.to(tl.int64) + o_m, b_sum, mask=m_m)


@triton.jit
def count(b_z, b_bar, m_tile, o_r, r: tl.constexpr):
    """Per user (above, equal) in column r of [BLOCK_M, BLOCK_R], zeros beside it."""
    b_above = tl.sum((m_tile & (b_z > b_bar[:, None])).to(tl.int32), axis=1)
    b_equal = tl.sum((m_tile & (b_z == b_bar[:, None])).to(tl.int32), axis=1)
    m_r = o_r[None, :] == r
    return tl.where(m_r, b_above[:, None], 0), tl.where(m_r, b_equal[:, None], 0)


@triton.jit
def rank_of_target_kernel(
    queries_ptr,
    items_ptr,
    targets_ptr,
    offsets_ptr,
    history_ptr,
    allowed_ptr,
    bars_ptr,
    above_ptr,  # int32 [shares, R, B]
    equal_ptr,
    B,
    N,
    share,
    D: tl.constexpr,
    K: tl.constexpr,
    R: tl.constexpr,
    ALLOWED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    PRECISION: tl.constexpr,
):
    o_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    m_m = o_m < B
    i_share = tl.program_id(1)
    first = 1 + i_share * share
    last = tl.minimum(first + share, N)
    o_user = tl.minimum(o_m, B - 1).to(tl.int64)
    o_r = tl.arange(0, BLOCK_R)
    b_target = tl.load(targets_ptr + o_user)
    p_begin = tl.load(offsets_ptr + o_user)
    p_end = tl.load(offsets_ptr + o_user + 1)
    b_above = tl.zeros((BLOCK_M, BLOCK_R), tl.int32)
    b_equal = tl.zeros((BLOCK_M, BLOCK_R), tl.int32)
    for start in tl.range(first, last, BLOCK_N):
        o_n = start + tl.arange(0, BLOCK_N)
        o_item = tl.minimum(o_n, N - 1).to(tl.int64)
        m_tile = tile_counts(
            history_ptr, allowed_ptr, p_begin, p_end, start, last, ALLOWED, BLOCK_N
        )
        m_tile = m_tile & (o_item[None, :] != b_target[:, None])
        b_sum = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for k in tl.static_range(K):
            p_q = queries_ptr + k * B.to(tl.int64) * D
            p_e = items_ptr + k * N.to(tl.int64) * D
            b_z = tile_scores(p_q, p_e, o_user, o_item, D, BLOCK_M, BLOCK_N, BLOCK_D, PRECISION)
            b_bar = tl.load(bars_ptr + k * B.to(tl.int64) + o_user)
            b_more = count(b_z, b_bar, m_tile, o_r, k)
            b_above += b_more[0]
            b_equal += b_more[1]
            b_sum += b_z
        if K > 1:
            b_bar = tl.load(bars_ptr + K * B.to(tl.int64) + o_user)
            b_more = count(b_sum, b_bar, m_tile, o_r, K)
            b_above += b_more[0]
            b_equal += b_more[1]
    o_out = (i_share * R + o_r[None, :]).to(tl.int64) * B + o_m[:, None]
    m_out = m_m[:, None] & (o_r < R)[None, :]
    tl.store(above_ptr + o_out, b_above, mask=m_out)
    tl.store(equal_ptr + o_out, b_equal, mask=m_out)


def rank_of_target_fwd(
    queries: Tensor, items: Tensor, targets: Tensor, excluded: Excluded, repeats: Repeats
) -> tuple[Tensor, Tensor]:
    """Launch; see `op.rank_of_target`."""
    queries, items, targets = queries.contiguous(), items.contiguous(), targets.contiguous()
    branches, users, width = queries.shape
    n_items, rows = items.shape[1], rankings(branches)
    device = device_of(queries)
    bars = queries.new_empty(rows, users, dtype=torch.float32)

    def launch(config: SearchConfig) -> tuple[Tensor, Tensor]:
        tile = {
            "D": width,
            "K": branches,
            "BLOCK_M": config.block_m,
            "BLOCK_N": config.block_n,
            "BLOCK_D": config.block_d,
            "PRECISION": dot_precision(queries),
            "num_warps": config.num_warps,
            "num_stages": config.num_stages,
        }
        count, share = shares(users, n_items - 1, config, device)
        above = queries.new_empty(count, rows, users, dtype=torch.int32)
        equal = torch.empty_like(above)
        blocks = triton.cdiv(users, config.block_m)
        target_scores_kernel[(blocks,)](queries, items, targets, bars, users, n_items, **tile)
        rank_of_target_kernel[(blocks, count)](
            queries,
            items,
            targets,
            excluded.offsets.to(torch.int32),
            excluded.items.to(torch.int32),
            excluded.allowed,
            bars,
            above,
            equal,
            users,
            n_items,
            share,
            R=rows,
            ALLOWED=excluded.allowed is not None,
            BLOCK_R=triton.next_power_of_2(rows),
            **tile,
        )
        return above, equal

    with on_device_of(queries):
        config = reviewed(queries, device)
        key = f"rank_of_target {queries.dtype} d<={triton.next_power_of_2(width)} K={branches}"
        above, equal = launch(tuned(key, config, lambda: candidates(config), launch))
    ranks, ties = 1 + above.sum(0), equal.sum(0)
    return _missed(ranks, ties, targets, excluded, n_items) if repeats == "miss" else (ranks, ties)


def _missed(
    ranks: Tensor, ties: Tensor, targets: Tensor, excluded: Excluded, n_items: int
) -> tuple[Tensor, Tensor]:
    """A target in its own history stands behind all that is left, with the rest of the history."""
    part = torch.ones(n_items, dtype=torch.bool, device=targets.device)
    part[0] = False
    if excluded.allowed is not None:
        part &= excluded.allowed
    owners, out = excluded.owners, torch.zeros_like(targets)
    out.index_add_(0, owners, part[excluded.items].long())
    missed = torch.zeros_like(targets, dtype=torch.bool)
    missed[owners[excluded.items == targets[owners]]] = True
    ranks = torch.where(missed, 1 + part.sum() - out, ranks)
    return ranks, torch.where(missed, out - part[targets].long(), ties)
