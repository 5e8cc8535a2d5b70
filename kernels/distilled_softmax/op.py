"""`distilled_softmax`: checks, choice of the engine, gradient."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.backend import (
    choose,
    cuda_extension_missing,
    extension_missing,
    forced,
    runs_anywhere,
    triton_missing,
)
from odmt_fast.kernels.debiased_logits.op import check_inputs
from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.distilled_softmax import reference
from odmt_fast.kernels.distilled_softmax.configs import stored_chunks
from odmt_fast.kernels.distilled_softmax.reference import ENSEMBLE, Edge
from odmt_fast.kernels.distilled_softmax.spec import MAX_BRANCHES, MAX_EDGES, Spec, stats_width
from odmt_fast.kernels.launch.backends import (
    CPU_DTYPES,
    CUDA_DTYPES,
    TRITON_DTYPES,
    dtype_missing,
)
from odmt_fast.kernels.launch.device import device_at
from odmt_fast.kernels.launch.operator import Operator

OP = "distilled_softmax"
MEMORY_BUDGET_BYTES = 256 * 2**20
SMALLEST_TAU = 1e-4  # below it, scores divided by tau leave fp32
ENGINES = {"cpu": "stored", "cuda": "stored", "triton": "flash"}
TENSORS = 9  # of the arguments of the custom op


def distilled_softmax(
    queries: Tensor,
    items: Tensor,
    candidates: Candidates,
    *,
    tau: float,
    edges: Sequence[Edge],
    detach_teacher: bool = False,
    row_scale: Tensor | None = None,
    memory_budget: int = MEMORY_BUDGET_BYTES,
) -> tuple[Tensor, Tensor]:
    """Cross entropy of every branch and distillation loss of every edge, summed over the rows.

    Args:
        queries: [K, M, d] user states of K branches and M rows; fp32 | bf16 | fp16 | fp64.
        items: [K, U, d] embeddings of the U distinct items, same dtype.
        candidates: what the U columns are and who may not see them, see `Candidates`.
        tau: temperature of the distillation.
        edges: (student branch, teacher branch or ENSEMBLE) pairs; any number, also none.
        detach_teacher: stop the gradients on the teachers' side, the ensemble's included.
        row_scale: [M] what each row's losses are multiplied with, fp32 or fp64, without a gradient;
            a row of 0 has no part in any gradient. None is 1 / M for each, the mean.
        memory_budget: most bytes of logits held at a time (at least one row's). Logits that exceed
            it are computed twice, chunk by chunk; on CUDA, past `configs.STORED_CHUNKS` chunks,
            none are stored.

    Returns:
        ce [K] and kd [E] (kd includes tau**2), fp32 (fp64 for fp64), zeros when M = 0; both
        differentiable in queries and items, for any upstream gradient of each entry.

    Raises:
        ValueError: arguments that do not fit, named with their value.
        RuntimeError: the forced backend cannot run here.

    Source: ODMT (arXiv 2308.04067), official model/model.py::Model.forward and kd_ce_loss.
    """
    check_inputs(OP, queries, items, candidates)
    _check_row_scale(row_scale, queries)
    spec = Spec(
        float(tau), tuple((int(s), int(t)) for s, t in edges), detach_teacher, memory_budget
    )
    _check_spec(spec, len(queries))
    backend = _backend(queries, items, spec)
    if backend == "reference" or queries.shape[1] == 0:
        return reference.distilled_softmax(
            queries,
            items,
            candidates,
            tau=spec.tau,
            edges=spec.edges,
            detach_teacher=detach_teacher,
            row_scale=row_scale,
        )
    ce, kd = _operator(queries, items, *candidates, row_scale, *spec.settings, backend)
    return ce, kd


def _check_row_scale(row_scale: Tensor | None, queries: Tensor) -> None:
    if row_scale is None:
        return
    rows = queries.shape[1]
    if row_scale.dtype not in (torch.float32, torch.float64) or tuple(row_scale.shape) != (rows,):
        raise ValueError(
            f"{OP}: row_scale must be float32 or float64 [{rows}], got {row_scale.dtype} "
            f"{list(row_scale.shape)}"
        )
    if row_scale.device != queries.device:
        raise ValueError(f"{OP}: row_scale is on {row_scale.device}, queries on {queries.device}")
    if row_scale.requires_grad:
        raise ValueError(f"{OP}: row_scale has no gradient; pass row_scale.detach()")


def _check_spec(spec: Spec, branches: int) -> None:
    if branches > MAX_BRANCHES:
        raise ValueError(f"{OP}: queries must have 1..{MAX_BRANCHES} branches, got {branches}")
    if not SMALLEST_TAU <= spec.tau < float("inf"):
        raise ValueError(f"{OP}: tau must be finite and at least {SMALLEST_TAU}, got {spec.tau}")
    if len(spec.edges) > MAX_EDGES:
        raise ValueError(f"{OP}: at most {MAX_EDGES} edges, got {len(spec.edges)}")
    if spec.memory_budget <= 0:
        raise ValueError(f"{OP}: memory_budget must be positive bytes, got {spec.memory_budget}")
    for edge in spec.edges:
        if not (0 <= edge[0] < branches and ENSEMBLE <= edge[1] < branches):
            raise ValueError(
                f"{OP}: edge {edge} must be (student, teacher) with branches 0..{branches - 1}, "
                f"or ENSEMBLE = {ENSEMBLE} as the teacher"
            )


def _backend(queries: Tensor, items: Tensor, spec: Spec) -> str:
    """The engine for these tensors: on CUDA, logits are stored while few chunks hold them."""
    most = _most_chunks(queries.device)
    too_large = False
    if most is not None:
        logits_bytes = queries.shape[0] * queries.shape[1] * items.shape[1] * items.element_size()
        too_large = logits_bytes > spec.memory_budget * most
    return _chosen(queries.device.type, queries.dtype, too_large)


# A compiled graph keeps the answers it was traced with.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _most_chunks(device: torch.device) -> int | None:
    """Chunks of the memory budget that logits may take to be stored; None is any number."""
    return stored_chunks(device_at(device)) if device.type == "cuda" and not forced() else None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _chosen(device_type: str, dtype: torch.dtype, too_large: bool) -> str:
    def stored_on_cuda(device_type: str) -> str | None:
        budget = "the logits take too many chunks of the memory budget" if too_large else None
        return cuda_extension_missing(device_type) or dtype_missing(dtype, CUDA_DTYPES) or budget

    return choose(
        OP,
        device_type,
        {
            "cuda": stored_on_cuda,
            "triton": lambda device: triton_missing(device) or dtype_missing(dtype, TRITON_DTYPES),
            "cpu": lambda device: extension_missing(device) or dtype_missing(dtype, CPU_DTYPES),
            "reference": runs_anywhere,
        },
    )


def _engine(backend: str) -> Any:
    return import_module(f"odmt_fast.kernels.distilled_softmax.{ENGINES[backend]}")


def _forward(*arguments: Any) -> tuple[Any, ...]:
    """(ce, kd, the statistics of the rows), and the logits where they are kept."""
    queries, items, *candidates, row_scale = arguments[:TENSORS]
    *settings, backend = arguments[TENSORS:]
    return tuple(
        _engine(backend).forward(
            queries, items, Candidates(*candidates), row_scale, Spec.of(*settings)
        )
    )


def _backward(g_ce: Tensor, g_kd: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    queries, items, *candidates, row_scale = arguments[:TENSORS]
    stats, logits, *settings, backend = arguments[TENSORS:]
    problem = queries, items, Candidates(*candidates), row_scale, Spec.of(*settings)
    d_queries, d_items = _engine(backend).backward((g_ce, g_kd), *problem, stats, logits)
    return d_queries, d_items


def _like(*arguments: Any) -> tuple[Tensor, ...]:
    queries, students = arguments[0], arguments[TENSORS + 1]
    branches, rows = queries.shape[:2]
    return tuple(
        queries.new_empty(shape, dtype=torch.float32)
        for shape in (branches, len(students), (rows, stats_width(branches)))
    )


_operator = Operator(
    name=OP,
    signature=(
        "Tensor queries, Tensor items, Tensor log_p, Tensor counts, Tensor targets, "
        "Tensor row_user, Tensor history_offsets, Tensor history, Tensor? row_scale, "
        f"{Spec.SIGNATURE}, str backend"
    ),
    forward=_forward,
    like=_like,
    results=2,
    gradients=2,
    backward=_backward,
    backward_like=lambda g_ce, g_kd, queries, items, *_: (
        torch.empty_like(queries),
        torch.empty_like(items),
    ),
    keeps=tuple(range(TENSORS)),
    extras=1,
    spare=True,
)
