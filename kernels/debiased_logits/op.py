"""`debiased_logits`: checks, choice of the backend, autograd, and the ops torch.compile sees."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.backend import choose, extension_missing, runs_anywhere
from odmt_fast.kernels.debiased_logits import reference
from odmt_fast.kernels.debiased_logits.reference import Columns, accumulation_dtype
from odmt_fast.kernels.linear.libraries import bmm

OP = "debiased_logits"
CPU_DTYPES = (torch.float32, torch.bfloat16)
CUDA_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
INDEX_DTYPES = {
    "counts": torch.int32,
    "targets": torch.int64,
    "row_user": torch.int32,
    "history_offsets": torch.int32,
    "history": torch.int32,
}


def debiased_logits(queries: Tensor, items: Tensor, columns: Columns) -> Tensor:
    """Logits [K, M, U] of every row against the distinct columns.

    u . e - log p + log count; the target's column counts once; the user's other columns are NEG.

    Args:
        queries: [K, M, d] user states, fp32 | bf16 | fp16 | fp64.
        items: [K, U, d] embeddings of the distinct items, same dtype.
        columns: what the columns mean, see `Columns`.

    Returns:
        fp32 (fp64 for fp64), differentiable in queries and items; NEG carries no gradient.

    Raises:
        ValueError: arguments that do not fit, named with their value.
        RuntimeError: the forced backend cannot run here.
    """
    check_inputs(OP, queries, items, columns)
    scores = bmm(queries, items.transpose(1, 2))
    if torch.compiler.is_compiling():
        return _forward_op(scores, *columns)
    if _backend(scores) == "reference":
        return reference.weigh(scores, columns)
    return _Debias.apply(scores, columns)  # type: ignore[no-untyped-call]


def check_inputs(op: str, queries: Tensor, items: Tensor, columns: Columns) -> None:
    """Raise unless shapes, dtypes and devices fit each other; values are not looked at."""
    if queries.dim() != 3 or queries.shape[0] == 0 or not queries.dtype.is_floating_point:
        raise ValueError(
            f"{op}: queries must be floating [K, M, d] with K >= 1, got {queries.dtype} "
            f"{list(queries.shape)}"
        )
    branches, rows, d = queries.shape
    if items.dim() != 3 or items.shape[0] != branches or items.shape[2] != d:
        raise ValueError(f"{op}: items must be [{branches}, U, {d}], got {list(items.shape)}")
    if items.dtype != queries.dtype or items.device != queries.device:
        raise ValueError(
            f"{op}: items must be {queries.dtype} on {queries.device} like queries, got "
            f"{items.dtype} on {items.device}"
        )
    n = items.shape[1]
    lengths = {"log_p": n, "counts": n, "targets": rows, "row_user": rows}
    for name, column in columns._asdict().items():
        wanted = INDEX_DTYPES.get(name)
        if column.dim() != 1 or column.numel() != lengths.get(name, column.numel()):
            raise ValueError(
                f"{op}: columns.{name} must be [{lengths.get(name, 'n')}], got {list(column.shape)}"
            )
        if column.dtype != wanted if wanted else not column.dtype.is_floating_point:
            raise ValueError(
                f"{op}: columns.{name} must be {wanted or 'floating'}, got {column.dtype}"
            )
        if column.device != queries.device:
            raise ValueError(
                f"{op}: columns.{name} is on {column.device}, queries on {queries.device}"
            )


@cache
def _cuda_error() -> str | None:
    error = extension_missing("cpu")
    if error is not None:
        return error
    from odmt_fast import _C

    if hasattr(_C, "distilled_rows_cuda_forward"):
        return None
    return "odmt_fast._C was built without CUDA; reinstall with nvcc and ODMT_FAST_EXT=cuda"


def cuda_extension_missing(device_type: str) -> str | None:
    """`Missing` check of the C++ extension's CUDA side."""
    if device_type != "cuda":
        return f"the cuda backend takes CUDA tensors, got {device_type}"
    return _cuda_error()


def _backend(scores: Tensor) -> str:
    def takes(known: tuple[torch.dtype, ...]) -> str | None:
        names = ", ".join(map(str, known))
        return None if scores.dtype in known else f"it takes {names}; got {scores.dtype}"

    return choose(
        OP,
        scores.device.type,
        {
            "cuda": lambda device: cuda_extension_missing(device) or takes(CUDA_DTYPES),
            "cpu": lambda device: extension_missing(device) or takes(CPU_DTYPES),
            "reference": runs_anywhere,
        },
    )


def _forward(scores: Tensor, columns: Columns) -> Tensor:
    if _backend(scores) == "reference":
        return reference.weigh(scores, columns).clone()
    from odmt_fast.kernels.debiased_logits import passes

    return passes.forward(scores, columns)


def _backward(gradient: Tensor, columns: Columns, dtype: torch.dtype) -> Tensor:
    if _backend(gradient.to(dtype)) == "reference":
        weights = reference.log_weights(columns, gradient.dtype)
        return gradient.masked_fill(weights == reference.EXCLUDED, 0.0).to(dtype, copy=True)
    from odmt_fast.kernels.debiased_logits import passes

    return passes.backward(gradient, columns, dtype)


class _Debias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, columns: Columns) -> Tensor:
        ctx.save_for_backward(*columns)
        ctx.dtype = scores.dtype
        return _forward(scores, columns)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _backward(gradient, Columns(*ctx.saved_tensors), ctx.dtype), None


@torch.library.custom_op("odmt_fast::debiased_logits", mutates_args=())
def _forward_op(
    scores: Tensor,
    log_p: Tensor,
    counts: Tensor,
    targets: Tensor,
    row_user: Tensor,
    history_offsets: Tensor,
    history: Tensor,
) -> Tensor:
    columns = Columns(log_p, counts, targets, row_user, history_offsets, history)
    return _forward(scores, columns)


@_forward_op.register_fake
def _(scores: Tensor, *_: Tensor) -> Tensor:
    return scores.new_empty(scores.shape, dtype=accumulation_dtype(scores.dtype))


@torch.library.custom_op("odmt_fast::debiased_logits_backward", mutates_args=())
def _backward_op(
    gradient: Tensor,
    log_p: Tensor,
    counts: Tensor,
    targets: Tensor,
    row_user: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    columns = Columns(log_p, counts, targets, row_user, history_offsets, history)
    return _backward(gradient, columns, dtype)


@_backward_op.register_fake
def _(gradient: Tensor, *rest: Any) -> Tensor:
    return gradient.new_empty(gradient.shape, dtype=rest[-1])


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])
    ctx.dtype = inputs[0].dtype


def _op_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return _backward_op(gradient, *ctx.saved_tensors, ctx.dtype), *(None,) * 6


_forward_op.register_autograd(_op_backward, setup_context=_setup_context)
