"""packed_attention, and packed_self_attention of one fused tensor: checks, backend, gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.launch.backends import TRITON_DTYPES, choose_backend
from odmt_fast.kernels.launch.checks import check_dropout, check_floating, check_groups
from odmt_fast.kernels.launch.device import device_of
from odmt_fast.kernels.launch.operator import Operator
from odmt_fast.kernels.packed_attention import configs
from odmt_fast.kernels.packed_attention.problem import Problem
from odmt_fast.kernels.packed_attention.reference import packed_attention_reference
from odmt_fast.kernels.packed_attention.segments import check_segments

OP = "packed_attention"
MASKS = ("asymmetric", "symmetric", "causal")
LARGEST_HEAD = 768

Three = tuple[Tensor, Tensor, Tensor]


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
    groups: int = 1,
) -> Tensor:
    """softmax(scale q k^T + mask) v within each segment of packed tokens.

    Args:
        q, k, v: [P, H, D], one dtype; the last axis contiguous, other strides free.
        cu_seqlens: int32 [n + 1], segment s is tokens cu_seqlens[s] .. cu_seqlens[s + 1] - 1; from
            0 to P. Empty segments are allowed.
        max_seqlen: upper bound of the segment lengths, at most 512.
        mask: "symmetric"; "causal"; or "asymmetric": the last token of a segment is read by itself
            only, and reads all.
        scale: factor of the scores, usually D**-0.5.
        dropout: probability of dropping a probability.
        seed: int64 [1] on q's device, needed where dropout > 0; element index
            (query token of the group * H + head) * 512 + position of the key in the segment. Of
            length 2 the second number is the index of the first token's first element.
        groups: equal consecutive parts of the tokens whose noise is independent of each other's
            size.

    Returns:
        [P, H, D], contiguous, in q's dtype.

    Raises:
        ValueError: shapes, dtypes, devices or values that do not fit.
        RuntimeError: the forced backend cannot run here.

    Source: official model/modules.py, class MultiHeadedAttention; mask of
    model/model.py, `version="v1"`.
    """
    _check(q, k, v, cu_seqlens, max_seqlen, mask, dropout, seed, groups)
    backend = backend_of(q, q.shape[-1], max_seqlen, dropout)
    if backend in ("reference", "xformers"):
        return _by_autograd(
            q, k, v, cu_seqlens, max_seqlen, mask, scale, dropout, seed, groups, backend
        )
    settings = (max_seqlen, mask, scale, dropout, groups, backend)
    return _operator(q, k, v, cu_seqlens, seed, *settings)[0]


def packed_self_attention(
    qkv: Tensor,
    cu_seqlens: Tensor,
    *,
    max_seqlen: int,
    mask: str,
    scale: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    groups: int = 1,
) -> Tensor:
    """`packed_attention` of the three slices of qkv [P, 3, H, D]; arguments and errors as there.

    q, k and v lie in one tensor, as one projection makes them. Splitting it outside would cost
    autograd a copy of all three gradients to join them again; here they are written where they
    belong.
    """
    if qkv.dim() != 4 or qkv.shape[1] != 3:
        raise ValueError(f"packed_self_attention: qkv must be [P, 3, H, D], got {list(qkv.shape)}")
    q, k, v = qkv.unbind(1)
    _check(q, k, v, cu_seqlens, max_seqlen, mask, dropout, seed, groups)
    backend = backend_of(q, q.shape[-1], max_seqlen, dropout)
    if backend in ("reference", "xformers"):
        return _by_autograd(
            q, k, v, cu_seqlens, max_seqlen, mask, scale, dropout, seed, groups, backend
        )
    settings = (max_seqlen, mask, scale, dropout, groups, backend)
    return _self_operator(qkv, cu_seqlens, seed, *settings)[0]


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    p: float,
    seed: Tensor | None,
    groups: int,
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
    check_groups(OP, groups, q.shape[0], "tokens")


def backend_of(q: Tensor, d: int, max_seqlen: int, p: float) -> str:
    """That of `packed_attention` for tensors like q with heads of size d and dropout p."""
    limit = xformers_limit = None
    if d % 8 or not 16 <= d <= LARGEST_HEAD:
        limit = f"the head size must be a multiple of 8 in [16, {LARGEST_HEAD}], got {d}"
    elif q.is_cuda and q.dtype in TRITON_DTYPES and not torch.compiler.is_compiling():
        limit = configs.limit(device_of(q), q.element_size(), max_seqlen)
    if p > 0.0:
        # No number in it: a graph may be traced for any.
        xformers_limit = (
            "xformers draws dropout from torch's generator, not from seed; use dropout=0"
        )
    return choose_backend(OP, q.device.type, q.dtype, limit, xformers_limit=xformers_limit)


def _by_autograd(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
    seed: Tensor | None,
    groups: int,
    backend: str,
) -> Tensor:
    """The backends that are differentiable themselves."""
    if backend == "xformers":
        from odmt_fast.kernels.packed_attention.by_xformers import packed_attention_xformers

        return packed_attention_xformers(q, k, v, cu_seqlens, mask, scale)
    return packed_attention_reference(q, k, v, cu_seqlens, max_seqlen, mask, scale, p, seed, groups)


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    seed: Tensor | None,
    max_seqlen: int,
    mask: str,
    scale: float,
    p: float,
    groups: int,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """(out, lse [P, H] fp32) of the triton and cpu backends."""
    if backend == "cpu":
        from odmt_fast.kernels.packed_attention import cpu

        return cpu.forward(q, k, v, cu_seqlens, max_seqlen, mask, scale, p, seed, groups)
    from odmt_fast.kernels.packed_attention.fwd import packed_attention_fwd

    problem = Problem(q, k, v, cu_seqlens, seed, max_seqlen, mask, scale, p, groups)
    return packed_attention_fwd(problem)


def _backward(
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
    groups: int,
    backend: str,
    *,
    into: Three | None = None,
) -> Three:
    """(dq, dk, dv), in the three tensors `into` when given: of equal strides, last axis 1."""
    dout = dout.contiguous()
    if backend == "cpu":
        from odmt_fast.kernels.packed_attention import cpu

        settings = (max_seqlen, mask, scale, p, seed, groups)
        return cpu.backward(dout, q, k, v, cu_seqlens, *settings, lse, into)
    from odmt_fast.kernels.packed_attention.bwd import packed_attention_bwd

    problem = Problem(q, k, v, cu_seqlens, seed, max_seqlen, mask, scale, p, groups)
    return packed_attention_bwd(problem, dout, lse, into)


def _like(q: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:2], dtype=torch.float32)


SETTINGS = "SymInt max_seqlen, str mask, float scale, float p, int groups, str backend"

_operator = Operator(
    name="packed_attention",
    signature=f"Tensor q, Tensor k, Tensor v, Tensor cu_seqlens, Tensor? seed, {SETTINGS}",
    forward=_forward,
    like=_like,
    gradients=3,
    backward=_backward,
    backward_like=lambda dout, q, *_: tuple(q.new_empty(q.shape) for _ in range(3)),
    keeps=(0, 1, 2, 3, 4),
    extras=1,
)


def _self_forward(qkv: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    q, k, v = qkv.unbind(1)
    return _forward(q, k, v, *rest)


def _self_backward(dout: Tensor, qkv: Tensor, *rest: Any) -> tuple[Tensor]:
    dqkv = torch.empty(qkv.shape, dtype=qkv.dtype, device=qkv.device)
    q, k, v = qkv.unbind(1)
    dq, dk, dv = dqkv.unbind(1)
    _backward(dout, q, k, v, *rest, into=(dq, dk, dv))
    return (dqkv,)


_self_operator = Operator(
    name="packed_self_attention",
    signature=f"Tensor qkv, Tensor cu_seqlens, Tensor? seed, {SETTINGS}",
    forward=_self_forward,
    like=lambda qkv, *_: _like(qkv[:, 0]),
    gradients=1,
    backward=_self_backward,
    backward_like=lambda dout, qkv, *_: (qkv.new_empty(qkv.shape),),
    keeps=(0, 1, 2),
    extras=1,
)
