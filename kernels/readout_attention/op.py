"""readout_attention: checks, backend choice, gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.launch.backends import TRITON_DTYPES, choose_backend
from odmt_fast.kernels.launch.checks import check_dropout, check_floating
from odmt_fast.kernels.launch.device import device_of
from odmt_fast.kernels.launch.operator import Operator
from odmt_fast.kernels.packed_attention.segments import check_segments
from odmt_fast.kernels.readout_attention import configs
from odmt_fast.kernels.readout_attention.problem import Problem
from odmt_fast.kernels.readout_attention.reference import readout_attention_reference

OP = "readout_attention"
MASKS = ("asymmetric", "symmetric")
MOST_ROWS = 32  # readouts * heads of a segment form one tile of the Triton kernels
LARGEST_WIDTH = 8192


def readout_attention(
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    *,
    max_seqlen: int,
    mask: str,
    scale: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """Weighted sums of the raw hidden states of each segment, one per readout and head.

    Keys and values are never formed: q.(W_K h) = (W_K^T q).h and sum p W_V h = W_V sum p h.

    Args:
        queries: [U, R, H, d], W_K^T q of R readouts and H heads for each of U segments.
        hidden: [P, d], queries' dtype; the last axis contiguous.
        cu_seqlens: int32 [U + 1], segment u is tokens cu_seqlens[u] .. cu_seqlens[u + 1] - 1; from
            0 to P.
        max_seqlen: upper bound of the segment lengths, at most 512.
        mask: "symmetric": every readout reads all tokens of its segment; "asymmetric": readout
            R - 1 reads all, the others all but the last token.
        scale: factor of the scores, (head size)**-0.5.
        dropout: probability of dropping a probability.
        seed: int64 [1] on the data's device, needed where dropout > 0; element index
            ((u * R + r) * H + h) * 512 + position of the key in the segment. Of length 2 the second
            number is the index of the first readout's first element.

    Returns:
        [U, R, H, d], contiguous, in the data's dtype; zero where a readout has no key to read.

    Raises:
        ValueError: shapes, dtypes, devices or values that do not fit.
        RuntimeError: the forced backend cannot run here.

    Source: official model/modules.py, MultiHeadedAttention of the last layer, of which only the
    outputs text[0], image[0] and id are used (`MergedAttentionFusion.forward`).
    """
    _check(queries, hidden, cu_seqlens, max_seqlen, mask, dropout, seed)
    _, readouts, heads, _ = queries.shape
    backend = backend_of(hidden, readouts, heads, max_seqlen)
    if backend == "reference":
        return readout_attention_reference(
            queries, hidden, cu_seqlens, max_seqlen, mask, scale, dropout, seed
        )
    return _operator(queries, hidden, cu_seqlens, seed, max_seqlen, mask, scale, dropout, backend)[
        0
    ]


def _check(
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    p: float,
    seed: Tensor | None,
) -> None:
    check_floating(OP, "queries", queries)
    check_dropout(OP, p, seed, queries.device)
    if mask not in MASKS:
        raise ValueError(f"{OP}: mask must be one of {', '.join(MASKS)}, got {mask!r}")
    if queries.dim() != 4:
        raise ValueError(f"{OP}: queries must be [U, R, H, d], got {list(queries.shape)}")
    if hidden.dim() != 2 or hidden.shape[1] != queries.shape[3]:
        raise ValueError(
            f"{OP}: hidden must be [P, d] with d={queries.shape[3]}, got {list(hidden.shape)}"
        )
    if hidden.dtype != queries.dtype or hidden.device != queries.device:
        raise ValueError(
            f"{OP}: hidden must be {queries.dtype} on {queries.device} like queries, got "
            f"{hidden.dtype} on {hidden.device}"
        )
    if hidden.stride(-1) != 1 and hidden.shape[-1] > 1:
        raise ValueError(
            f"{OP}: the last axis of hidden must be contiguous, got strides {hidden.stride()}; "
            "call hidden.contiguous()"
        )
    check_segments(OP, cu_seqlens, max_seqlen, hidden.shape[0], queries)
    if len(cu_seqlens) != queries.shape[0] + 1:
        raise ValueError(
            f"{OP}: cu_seqlens must be [U + 1]=[{queries.shape[0] + 1}], got "
            f"{list(cu_seqlens.shape)}"
        )


def backend_of(hidden: Tensor, readouts: int, heads: int, max_seqlen: int) -> str:
    """That of `readout_attention` for hidden [P, d]."""
    limit = None
    if readouts * heads > MOST_ROWS:
        limit = f"readouts * heads must be at most {MOST_ROWS}, got {readouts} * {heads}"
    elif hidden.shape[1] > LARGEST_WIDTH:
        limit = f"the width must be at most {LARGEST_WIDTH}, got {hidden.shape[1]}"
    elif hidden.is_cuda and hidden.dtype in TRITON_DTYPES and not torch.compiler.is_compiling():
        block_r = configs.padded_rows(readouts * heads)
        limit = configs.limit(device_of(hidden), hidden.element_size(), max_seqlen, block_r)
    return choose_backend(OP, hidden.device.type, hidden.dtype, limit)


def _forward(
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """(out, lse [U, R, H] fp32) of the triton and cpu backends."""
    queries = queries.contiguous()
    if backend == "cpu":
        from odmt_fast.kernels.readout_attention import cpu

        hidden = hidden.contiguous()
        return cpu.forward(queries, hidden, cu_seqlens, max_seqlen, mask, scale, p, seed)
    from odmt_fast.kernels.readout_attention.fwd import readout_attention_fwd

    problem = Problem(queries, hidden, cu_seqlens, seed, max_seqlen, mask, scale, p)
    return readout_attention_fwd(problem)


def _backward(
    dout: Tensor,
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    lse: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    dout, queries = dout.contiguous(), queries.contiguous()
    if backend == "cpu":
        from odmt_fast.kernels.readout_attention import cpu

        hidden = hidden.contiguous()
        return cpu.backward(
            dout, queries, hidden, cu_seqlens, max_seqlen, mask, scale, p, seed, lse
        )
    from odmt_fast.kernels.readout_attention.bwd import readout_attention_bwd

    problem = Problem(queries, hidden, cu_seqlens, seed, max_seqlen, mask, scale, p)
    return readout_attention_bwd(problem, dout, lse)


def _like(queries: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    lse = queries.new_empty(queries.shape[:3], dtype=torch.float32)
    return queries.new_empty(queries.shape), lse


def _backward_like(
    dout: Tensor, queries: Tensor, hidden: Tensor, *_: object
) -> tuple[Tensor, Tensor]:
    return queries.new_empty(queries.shape), hidden.new_empty(hidden.shape)


_operator = Operator(
    name="readout_attention",
    signature=(
        "Tensor queries, Tensor hidden, Tensor cu_seqlens, Tensor? seed, "
        "SymInt max_seqlen, str mask, float scale, float p, str backend"
    ),
    forward=_forward,
    like=_like,
    gradients=2,
    backward=_backward,
    backward_like=_backward_like,
    keeps=(0, 1, 2, 3),
    extras=1,
)
