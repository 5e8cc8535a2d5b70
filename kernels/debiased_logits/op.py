"""`debiased_logits`: checks, choice of the backend, gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.backend import (
    choose,
    cuda_extension_missing,
    extension_missing,
    runs_anywhere,
)
from odmt_fast.kernels.debiased_logits import passes, reference
from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.launch.backends import CPU_DTYPES, CUDA_DTYPES, dtype_missing
from odmt_fast.kernels.launch.operator import Operator
from odmt_fast.kernels.linear.libraries import bmm

OP = "debiased_logits"
INDEX_DTYPES = {
    "counts": torch.int32,
    "targets": torch.int64,
    "row_user": torch.int32,
    "history_offsets": torch.int32,
    "history": torch.int32,
}


def debiased_logits(queries: Tensor, items: Tensor, candidates: Candidates) -> Tensor:
    """Logits [K, M, U] of every row against the distinct columns.

    u . e - log p + log count; the target's column counts once; the user's other columns are NEG.

    Args:
        queries: [K, M, d] user states, fp32 | bf16 | fp16 | fp64.
        items: [K, U, d] embeddings of the distinct items, same dtype.
        candidates: what the U columns are and who may not see them, see `Candidates`.

    Returns:
        fp32 (fp64 for fp64), differentiable in queries and items; NEG carries no gradient.

    Raises:
        ValueError: arguments that do not fit, named with their value.
        RuntimeError: the forced backend cannot run here.
    """
    check_inputs(OP, queries, items, candidates)
    scores = bmm(queries, items.transpose(1, 2))
    if _backend(scores.device.type, scores.dtype) == "reference":
        return reference.weigh(scores, candidates)
    return _operator(scores, *candidates, scores.dtype)[0]


def check_inputs(op: str, queries: Tensor, items: Tensor, candidates: Candidates) -> None:
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
    for name, array in candidates._asdict().items():
        wanted = INDEX_DTYPES.get(name)
        if array.dim() != 1 or array.numel() != lengths.get(name, array.numel()):
            length = lengths.get(name, "n")
            raise ValueError(f"{op}: candidates.{name} must be [{length}], got {list(array.shape)}")
        if array.dtype != wanted if wanted else not array.dtype.is_floating_point:
            raise ValueError(
                f"{op}: candidates.{name} must be {wanted or 'floating'}, got {array.dtype}"
            )
        if array.device != queries.device:
            raise ValueError(
                f"{op}: candidates.{name} is on {array.device}, queries on {queries.device}"
            )


# A compiled graph keeps the backend it was traced with.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _backend(device_type: str, dtype: torch.dtype) -> str:
    return choose(
        OP,
        device_type,
        {
            "cuda": lambda device: (
                cuda_extension_missing(device) or dtype_missing(dtype, CUDA_DTYPES)
            ),
            "cpu": lambda device: extension_missing(device) or dtype_missing(dtype, CPU_DTYPES),
            "reference": runs_anywhere,
        },
    )


def _forward(scores: Tensor, *rest: Any) -> tuple[Tensor]:
    return (passes.forward(scores, Candidates(*rest[:-1])),)


def _backward(gradient: Tensor, *rest: Any) -> tuple[Tensor]:
    *candidates, dtype = rest
    return (passes.backward(gradient, Candidates(*candidates), dtype),)


_operator = Operator(
    name=OP,
    signature=(
        "Tensor scores, Tensor log_p, Tensor counts, Tensor targets, Tensor row_user, "
        "Tensor history_offsets, Tensor history, ScalarType dtype"
    ),
    forward=_forward,
    like=lambda scores, *_: (scores.new_empty(scores.shape, dtype=torch.float32),),
    gradients=1,
    backward=_backward,
    backward_like=lambda gradient, *rest: (gradient.new_empty(gradient.shape, dtype=rest[-1]),),
    keeps=(1, 2, 3, 4, 5, 6),
)
