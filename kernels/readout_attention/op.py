"""readout_attention: checks, backend choice, autograd, and the custom ops torch.compile sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.launch.backends import TRITON_DTYPES, choose_backend
from odmt_fast.kernels.launch.checks import check_dropout, check_floating
from odmt_fast.kernels.launch.device import device_of
from odmt_fast.kernels.packed_attention.segments import check_segments
from odmt_fast.kernels.readout_attention import configs
from odmt_fast.kernels.readout_attention.reference import readout_attention_reference

OP = "readout_attention"
MASKS = ("id_aware", "full")
MOST_ROWS = 32  # readouts * heads of a segment form one tile of the Triton kernels
LARGEST_WIDTH = 8192

Two = tuple[Tensor, Tensor]
Saved = tuple[Tensor, ...]


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
        mask: "full": every readout reads all tokens of its segment; "id_aware": readout R - 1
            reads all, the others all but the last token.
        scale: factor of the scores, (head size)**-0.5.
        dropout: probability of dropping a probability.
        seed: int64 [1] on the data's device, needed where dropout > 0; element index
            ((u * R + r) * H + h) * 512 + position of the key in the segment.

    Returns:
        [U, R, H, d], contiguous, in the data's dtype; zero where a readout has no key to read.

    Raises:
        ValueError: shapes, dtypes, devices or values that do not fit.
        RuntimeError: the forced backend cannot run here.

    Source: official model/modules.py, MultiHeadedAttention of the last layer, of which only the
    outputs text[0], image[0] and id are used (`MergedAttentionFusion.forward`).
    """
    _check(queries, hidden, cu_seqlens, max_seqlen, mask, dropout, seed)
    if _backend(queries, max_seqlen) == "reference":
        return readout_attention_reference(
            queries, hidden, cu_seqlens, max_seqlen, mask, scale, dropout, seed
        )
    if torch.compiler.is_compiling():
        return _forward_op(queries, hidden, cu_seqlens, seed, max_seqlen, mask, scale, dropout)[0]
    return _ReadoutAttention.apply(  # type: ignore[no-untyped-call]
        queries, hidden, cu_seqlens, seed, max_seqlen, mask, scale, dropout
    )


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


def _backend(queries: Tensor, max_seqlen: int) -> str:
    _, readouts, heads, d = queries.shape
    limit = None
    if readouts * heads > MOST_ROWS:
        limit = f"readouts * heads must be at most {MOST_ROWS}, got {readouts} * {heads}"
    elif d > LARGEST_WIDTH:
        limit = f"the width must be at most {LARGEST_WIDTH}, got {d}"
    elif queries.is_cuda and queries.dtype in TRITON_DTYPES and not torch.compiler.is_compiling():
        block_r = configs.padded_rows(readouts * heads)
        limit = configs.limit(device_of(queries), queries.element_size(), max_seqlen, block_r)
    return choose_backend(OP, queries.device.type, queries.dtype, limit)


def _forward(
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
) -> tuple[Tensor, Saved]:
    """(out, what the backward of the same backend wants back); triton: (lse [U, R, H],)."""
    queries = queries.contiguous()
    if _backend(queries, max_seqlen) == "triton":
        from odmt_fast.kernels.readout_attention.fwd import readout_attention_fwd

        out, lse = readout_attention_fwd(
            queries, hidden, cu_seqlens, max_seqlen, mask, scale, p, seed
        )
        return out, (lse,)
    from odmt_fast.kernels.readout_attention import cpu

    return cpu.forward(queries, hidden.contiguous(), cu_seqlens, max_seqlen, mask, scale, p, seed)


def _backward(
    dout: Tensor,
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    saved: Saved,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
) -> Two:
    dout, queries = dout.contiguous(), queries.contiguous()
    if _backend(queries, max_seqlen) == "triton":
        from odmt_fast.kernels.readout_attention.bwd import readout_attention_bwd

        return readout_attention_bwd(
            dout, queries, hidden, cu_seqlens, max_seqlen, mask, scale, p, seed, saved[0]
        )
    from odmt_fast.kernels.readout_attention import cpu

    hidden = hidden.contiguous()
    return cpu.backward(dout, queries, hidden, cu_seqlens, max_seqlen, mask, scale, p, seed, saved)


class _ReadoutAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        hidden: Tensor,
        cu_seqlens: Tensor,
        seed: Tensor | None,
        *settings: Any,
    ) -> Tensor:
        out, saved = _forward(queries, hidden, cu_seqlens, seed, *settings)
        ctx.save_for_backward(queries, hidden, cu_seqlens, seed, *saved)
        ctx.settings = settings
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        queries, hidden, cu_seqlens, seed, *saved = ctx.saved_tensors
        grads = _backward(dout, queries, hidden, cu_seqlens, seed, tuple(saved), *ctx.settings)
        return *grads, None, None, None, None, None, None


@torch.library.custom_op("odmt_fast::readout_attention", mutates_args=())
def _forward_op(
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
) -> tuple[Tensor, Tensor]:
    out, saved = _forward(queries, hidden, cu_seqlens, seed, max_seqlen, mask, scale, p)
    if _backend(queries, max_seqlen) == "triton":
        return out, saved[0]
    # A graph wants one signature: what the cpu backend saves is formed again in its backward.
    return out, out.new_zeros(queries.shape[:3], dtype=torch.float32)


@_forward_op.register_fake
def _(
    queries: Tensor,
    hidden: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
) -> tuple[Tensor, Tensor]:
    out = queries.new_empty(queries.shape)
    return out, queries.new_empty(queries.shape[:3], dtype=torch.float32)


@torch.library.custom_op("odmt_fast::readout_attention_backward", mutates_args=())
def _backward_op(
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
) -> tuple[Tensor, Tensor]:
    saved: Saved = (lse,)
    if _backend(queries, max_seqlen) != "triton":
        saved = _forward(queries, hidden, cu_seqlens, seed, max_seqlen, mask, scale, p)[1]
    return _backward(dout, queries, hidden, cu_seqlens, seed, saved, max_seqlen, mask, scale, p)


@_backward_op.register_fake
def _(
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
) -> Two:
    return queries.new_empty(queries.shape), hidden.new_empty(hidden.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:4], output[1])
    ctx.settings = inputs[4:]


def _backward_of_op(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    grads = _backward_op(dout, *ctx.saved_tensors, *ctx.settings)
    return *grads, None, None, None, None, None, None


_forward_op.register_autograd(_backward_of_op, setup_context=_setup_context)
