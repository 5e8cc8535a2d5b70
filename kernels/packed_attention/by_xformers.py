"""packed_attention by xformers' memory-efficient attention, as its block-diagonal masks express it.

`symmetric` and `causal` are one call. xformers has no mask like `asymmetric`, but two calls are
exactly it: all tokens but the last of each segment attend to each other, and the last ones, a query
per segment, to the whole segment. No softmax is split, so nothing has to be merged.

The masks are made of lengths on the host: on a GPU reading `cu_seqlens` waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor
from xformers.ops import memory_efficient_attention
from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask, BlockDiagonalMask

Attention = Callable[..., Tensor]
"""(q, k, v, attn_bias=...) -> out, all [1, tokens, H, D]."""


@dataclass(frozen=True)
class Call:
    """One call of the attention.

    Attributes:
        bias: its mask, over the rows named below.
        queries: int64, which tokens ask; None = all.
        keys: int64, which tokens are read; None = all.
    """

    bias: BlockDiagonalMask
    queries: Tensor | None = None
    keys: Tensor | None = None


def calls(cu_seqlens: Tensor, mask: str) -> tuple[Call, ...]:
    """What `mask` over the segments takes; their queries together are all tokens, each once.

    Args:
        cu_seqlens: int32 [n + 1], as of `op.packed_attention`.
        mask: "symmetric", "causal" or "asymmetric".
    """
    device = cu_seqlens.device
    bounds = cu_seqlens.tolist()
    lengths = [stop - start for start, stop in zip(bounds, bounds[1:], strict=False)]
    lengths = [length for length in lengths if length]
    if not lengths:
        return ()
    if mask == "symmetric":
        return (Call(BlockDiagonalMask.from_seqlens(lengths, device=device)),)
    if mask == "causal":
        return (Call(BlockDiagonalCausalMask.from_seqlens(lengths, device=device)),)
    last = torch.tensor([stop - 1 for stop in accumulate(lengths)])
    ones = [1] * len(lengths)
    made = [Call(BlockDiagonalMask.from_seqlens(ones, lengths, device=device), last.to(device))]
    if shorter := [length - 1 for length in lengths if length > 1]:
        others = torch.ones(sum(lengths), dtype=torch.bool).index_fill_(0, last, False)
        rows = others.nonzero().squeeze(1).to(device)
        made.append(Call(BlockDiagonalMask.from_seqlens(shorter, device=device), rows, rows))
    return tuple(made)


def attend(
    q: Tensor, k: Tensor, v: Tensor, planned: tuple[Call, ...], attention: Attention
) -> Tensor:
    """[P, H, D], contiguous, of q, k, v [P, H, D]; differentiable as `attention` is."""
    if not planned:
        return q + k + v  # of no element, but with a gradient

    def rows(x: Tensor, chosen: Tensor | None) -> Tensor:
        return (x if chosen is None else x.index_select(0, chosen)).unsqueeze(0)

    if planned[0].queries is None:
        made = attention(rows(q, None), rows(k, None), rows(v, None), attn_bias=planned[0].bias)
        return made.squeeze(0).contiguous()
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for call in planned:
        made = attention(
            rows(q, call.queries), rows(k, call.keys), rows(v, call.keys), attn_bias=call.bias
        )
        out = out.index_copy_(0, call.queries, made.squeeze(0))
    return out


@torch.compiler.disable
def packed_attention_xformers(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, mask: str, scale: float
) -> Tensor:
    """softmax(scale q k^T) v within each segment; arguments as of `op.packed_attention`.

    Raises:
        RuntimeError: xformers has no kernel for these tensors on this device.
    """
    attention = partial(memory_efficient_attention, scale=scale)
    try:
        return attend(q, k, v, calls(cu_seqlens, mask), attention)
    except NotImplementedError as error:
        raise RuntimeError(
            f"ODMT_FAST_BACKEND=xformers: packed_attention cannot run: {error}; "
            "unset ODMT_FAST_BACKEND"
        ) from error
