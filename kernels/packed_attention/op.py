"""packed_attention: checks, backend choice, autograd, and the custom ops torch.compile sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.launch.backends import TRITON_DTYPES, choose_backend
from odmt_fast.kernels.launch.checks import check_dropout, check_floating
from odmt_fast.kernels.launch.device import device_of
from odmt_fast.kernels.packed_attention import configs
from odmt_fast.kernels.packed_attention.reference import packed_attention_reference
from odmt_fast.kernels.packed_attention.segments import check_segments

OP = "packed_attention"
MASKS = ("id_aware", "full", "causal")
LARGEST_HEAD = 768

Three = tuple[Tensor, Tensor, Tensor]
Saved = tuple[Tensor, ...]


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    *,
    max_seqlen: int,
    mask: str,
    scale: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """softmax(scale q k^T + mask) v within each segment of packed tokens.

    Args:
        q, k, v: [P, H, D], one dtype; the last axis contiguous, other strides free.
        cu_seqlens: int32 [n + 1], segment s is tokens cu_seqlens[s] .. cu_seqlens[s + 1] - 1; from
            0 to P. Empty segments are allowed.
        max_seqlen: upper bound of the segment lengths, at most 512.
        mask: "full"; "causal"; or "id_aware": the last token of a segment is read by itself only,
            and reads all.
        scale: factor of the scores, usually D**-0.5.
        dropout: probability of dropping a probability.
        seed: int64 [1] on q's device, needed where dropout > 0; element index
            (query token * H + head) * 512 + position of the key in the segment.

    Returns:
        [P, H, D], contiguous, in q's dtype.

    Raises:
        ValueError: shapes, dtypes, devices or values that do not fit.
        RuntimeError: the forced backend cannot run here.

    Source: official model/modules.py, class MultiHeadedAttention; mask of
    model/model.py, `version="v1"`.
    """
    check_attention(q, k, v, cu_seqlens, max_seqlen, mask, dropout, seed)
    if _backend(q, max_seqlen) == "reference":
        return packed_attention_reference(
            q, k, v, cu_seqlens, max_seqlen, mask, scale, dropout, seed
        )
    if torch.compiler.is_compiling():
        return _forward_op(q, k, v, cu_seqlens, seed, max_seqlen, mask, scale, dropout)[0]
    return _PackedAttention.apply(  # type: ignore[no-untyped-call]
        q, k, v, cu_seqlens, seed, max_seqlen, mask, scale, dropout
    )


def check_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    p: float,
    seed: Tensor | None,
) -> None:
    check_floating(OP, "q", q)
    check_dropout(OP, p, seed, q.device)
    if mask not in MASKS:
        raise ValueError(f"{OP}: mask must be one of {', '.join(MASKS)}, got {mask!r}")
    if q.dim() != 3:
        raise ValueError(f"{OP}: q must be [P, H, D], got {list(q.shape)}")
    for name, x in (("k", k), ("v", v)):
        if x.shape != q.shape or x.dtype != q.dtype or x.device != q.device:
            raise ValueError(
                f"{OP}: {name} must be like q ({q.dtype} {list(q.shape)} on {q.device}), got "
                f"{x.dtype} {list(x.shape)} on {x.device}"
            )
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.stride(-1) != 1 and x.shape[-1] > 1:
            raise ValueError(
                f"{OP}: the last axis of {name} must be contiguous, got strides {x.stride()}; "
                f"call {name}.contiguous()"
            )
    check_segments(OP, cu_seqlens, max_seqlen, q.shape[0], q)


def _backend(q: Tensor, max_seqlen: int) -> str:
    d, limit = q.shape[-1], None
    if d % 8 or not 16 <= d <= LARGEST_HEAD:
        limit = f"the head size must be a multiple of 8 in [16, {LARGEST_HEAD}], got {d}"
    elif q.is_cuda and q.dtype in TRITON_DTYPES and not torch.compiler.is_compiling():
        limit = configs.limit(device_of(q), q.element_size(), max_seqlen)
    return choose_backend(OP, q.device.type, q.dtype, limit)


def runs_reference(q: Tensor, max_seqlen: int) -> bool:
    """Whether the reference, with torch's own autograd, computes q's attention."""
    return _backend(q, max_seqlen) == "reference"


def forward_of_backend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
) -> tuple[Tensor, Saved]:
    """(out, what the backward of the same backend wants back); for triton that is (lse [P, H],)."""
    if _backend(q, max_seqlen) == "triton":
        from odmt_fast.kernels.packed_attention.fwd import packed_attention_fwd

        out, lse = packed_attention_fwd(q, k, v, cu_seqlens, max_seqlen, mask, scale, p, seed)
        return out, (lse,)
    from odmt_fast.kernels.packed_attention import cpu

    return cpu.forward(q, k, v, cu_seqlens, max_seqlen, mask, scale, p, seed)


def backward_of_backend(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    saved: Saved,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
    into: Three | None = None,
) -> Three:
    """(dq, dk, dv), in the three tensors `into` when given: of equal strides, last axis 1."""
    dout = dout.contiguous()
    if _backend(q, max_seqlen) == "triton":
        from odmt_fast.kernels.packed_attention.bwd import packed_attention_bwd

        return packed_attention_bwd(
            dout, q, k, v, cu_seqlens, max_seqlen, mask, scale, p, seed, saved[0], into
        )
    from odmt_fast.kernels.packed_attention import cpu

    return cpu.backward(dout, q, k, v, cu_seqlens, max_seqlen, mask, scale, p, seed, saved, into)


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens: Tensor,
        seed: Tensor | None,
        *settings: Any,
    ) -> Tensor:
        out, saved = forward_of_backend(q, k, v, cu_seqlens, seed, *settings)
        ctx.save_for_backward(q, k, v, cu_seqlens, seed, *saved)
        ctx.settings = settings
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, cu_seqlens, seed, *saved = ctx.saved_tensors
        grads = backward_of_backend(dout, q, k, v, cu_seqlens, seed, tuple(saved), *ctx.settings)
        return *grads, None, None, None, None, None, None


@torch.library.custom_op("odmt_fast::packed_attention", mutates_args=())
def _forward_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
) -> tuple[Tensor, Tensor]:
    out, saved = forward_of_backend(q, k, v, cu_seqlens, seed, max_seqlen, mask, scale, p)
    if _backend(q, max_seqlen) == "triton":
        return out, saved[0]
    # A graph wants one signature: what the cpu backend saves is formed again in its backward.
    return out, out.new_zeros(q.shape[:2], dtype=torch.float32)


@_forward_op.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)


@torch.library.custom_op("odmt_fast::packed_attention_backward", mutates_args=())
def _backward_op(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    lse: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
) -> tuple[Tensor, Tensor, Tensor]:
    saved: Saved = (lse,)
    if _backend(q, max_seqlen) != "triton":
        saved = forward_of_backend(q, k, v, cu_seqlens, seed, max_seqlen, mask, scale, p)[1]
    return backward_of_backend(dout, q, k, v, cu_seqlens, seed, saved, max_seqlen, mask, scale, p)


@_backward_op.register_fake
def _(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    lse: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
) -> Three:
    return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs[:5], output[1])
    ctx.settings = inputs[5:]


def _backward_of_op(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    grads = _backward_op(dout, *ctx.saved_tensors, *ctx.settings)
    return *grads, None, None, None, None, None, None


_forward_op.register_autograd(_backward_of_op, setup_context=_setup_context)
