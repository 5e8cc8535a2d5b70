"""The k best items of each user, a tile of users and items at a time; scores are never stored.

Shapes    queries [B, D], items [N, D]: fp32 | bf16 | fp16
Returns   ids [B, k] int64, scores [B, k] fp32
Memory    the best of each share of the items, int64 [B, shares, KP]; KP is k rounded up
Order     a score and an item make one integer that sorts as (score, -item) does
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from odmt_fast.kernels.launch.catalogue import Excluded
from odmt_fast.kernels.launch.device import device_of, dot_precision, on_device_of
from odmt_fast.kernels.launch.tuning import tuned
from odmt_fast.kernels.rank_of_target.configs import SearchConfig, shares
from odmt_fast.kernels.rank_of_target.tile import tile_counts, tile_scores
from odmt_fast.kernels.top_k.configs import candidates, reviewed

LOWEST = tl.constexpr(-(2**63))


@triton.jit
def keys_of(b_z, o_item):
    """int64: the score's bits as a number that sorts like it, above the item's complement."""
    b_bits = (b_z + 0.0).to(tl.int32, bitcast=True)  # -0 becomes 0
    b_bits = b_bits ^ ((b_bits >> 31) & 0x7FFFFFFF)
    return (b_bits.to(tl.int64) << 32) | (0xFFFFFFFF - o_item.to(tl.int64))[None, :]


@triton.jit
def top_k_kernel(
    queries_ptr,
    items_ptr,
    offsets_ptr,
    history_ptr,
    allowed_ptr,
    keys_ptr,  # int64 [B, shares, KP]
    B,
    N,
    share,
    D: tl.constexpr,
    KP: tl.constexpr,
    ALLOWED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    o_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    i_share = tl.program_id(1)
    first = 1 + i_share * share
    last = tl.minimum(first + share, N)
    o_user = tl.minimum(o_m, B - 1).to(tl.int64)
    p_begin = tl.load(offsets_ptr + o_user)
    p_end = tl.load(offsets_ptr + o_user + 1)
    b_best = tl.full((BLOCK_M, KP), LOWEST, tl.int64)
    for start in tl.range(first, last, BLOCK_N):
        o_n = start + tl.arange(0, BLOCK_N)
        o_item = tl.minimum(o_n, N - 1).to(tl.int64)
        b_z = tile_scores(
            queries_ptr, items_ptr, o_user, o_item, D, BLOCK_M, BLOCK_N, BLOCK_D, PRECISION
        )
        m_tile = tile_counts(
            history_ptr, allowed_ptr, p_begin, p_end, start, last, ALLOWED, BLOCK_N
        )
        b_key = tl.where(m_tile, keys_of(b_z, o_n), LOWEST)
        b_bar = tl.min(b_best, axis=1)
        if tl.max((b_key > b_bar[:, None]).to(tl.int32)) > 0:
            b_both = tl.join(b_best, tl.topk(b_key, KP))
            b_best = tl.topk(tl.reshape(b_both, (BLOCK_M, 2 * KP)), KP)
    o_out = (o_m.to(tl.int64) * tl.num_programs(1) + i_share)[:, None] * KP + tl.arange(0, KP)
    tl.store(keys_ptr + o_out, b_best, mask=(o_m < B)[:, None])


def top_k_fwd(queries: Tensor, items: Tensor, k: int, excluded: Excluded) -> tuple[Tensor, Tensor]:
    """Launch; see `op.top_k`."""
    queries, items = queries.contiguous(), items.contiguous()
    users, width = queries.shape
    n_items, device = items.shape[0], device_of(queries)
    kept = max(16, triton.next_power_of_2(k))

    def launch(config: SearchConfig) -> Tensor:
        count, share = shares(users, n_items - 1, config, device)
        keys = queries.new_empty(users, count, kept, dtype=torch.int64)
        top_k_kernel[(triton.cdiv(users, config.block_m), count)](
            queries,
            items,
            excluded.offsets.to(torch.int32),
            excluded.items.to(torch.int32),
            excluded.allowed,
            keys,
            users,
            n_items,
            share,
            D=width,
            KP=kept,
            ALLOWED=excluded.allowed is not None,
            BLOCK_M=config.block_m,
            BLOCK_N=config.block_n,
            BLOCK_D=config.block_d,
            PRECISION=dot_precision(queries),
            num_warps=config.num_warps,
            num_stages=config.num_stages,
        )
        return keys

    with on_device_of(queries):
        config = reviewed(queries, kept, device)
        key = f"top_k {queries.dtype} d<={triton.next_power_of_2(width)} k<={kept}"
        keys = launch(tuned(key, config, lambda: candidates(config), launch))
    best = keys.flatten(1).sort(dim=1, descending=True).values[:, :k]
    bits = (best >> 32).to(torch.int32)
    scores = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)
    ids, missing = 0xFFFFFFFF - (best & 0xFFFFFFFF), best == LOWEST.value
    return ids.masked_fill(missing, -1), scores.masked_fill(missing, -torch.inf)
