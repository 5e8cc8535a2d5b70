"""`distilled_softmax`: checks, choice of the engine, autograd, and the ops torch.compile sees."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.backend import (
    choose,
    extension_missing,
    forced,
    runs_anywhere,
    triton_missing,
)
from odmt_fast.kernels.debiased_logits.op import check_inputs, cuda_extension_missing
from odmt_fast.kernels.debiased_logits.reference import Columns, accumulation_dtype
from odmt_fast.kernels.distilled_softmax import reference
from odmt_fast.kernels.distilled_softmax.configs import stored_chunks
from odmt_fast.kernels.distilled_softmax.reference import ENSEMBLE, Edge
from odmt_fast.kernels.distilled_softmax.spec import MAX_BRANCHES, MAX_EDGES, Spec, stats_width
from odmt_fast.kernels.launch.device import device_of

OP = "distilled_softmax"
MEMORY_BUDGET_BYTES = 256 * 2**20
SMALLEST_TAU = 1e-4  # below it, scores divided by tau leave fp32
ENGINES = {"cpu": "stored", "cuda": "stored", "triton": "flash"}
DTYPES = {
    "cpu": (torch.float32, torch.bfloat16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
    "triton": (torch.float32, torch.bfloat16, torch.float16),
}


def distilled_softmax(
    queries: Tensor,
    items: Tensor,
    columns: Columns,
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
        columns: what the columns mean, see `Columns`.
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
    check_inputs(OP, queries, items, columns)
    _check_row_scale(row_scale, queries)
    spec = Spec(
        float(tau), tuple((int(s), int(t)) for s, t in edges), detach_teacher, memory_budget
    )
    _check_spec(spec, len(queries))
    if torch.compiler.is_compiling() and not _only_reference(queries.device.type, queries.dtype):
        students = [s for s, _ in spec.edges]
        teachers = [t for _, t in spec.edges]
        ce, kd, _ = _forward_op(
            queries,
            items,
            *columns,
            row_scale,
            spec.tau,
            students,
            teachers,
            detach_teacher,
            memory_budget,
        )
        return ce, kd
    compiling = torch.compiler.is_compiling()  # then with the reference: it can be traced
    backend = "reference" if compiling else _backend(queries, items, spec)
    if backend == "reference" or queries.shape[1] == 0:
        return reference.distilled_softmax(
            queries,
            items,
            columns,
            tau=spec.tau,
            edges=spec.edges,
            detach_teacher=detach_teacher,
            row_scale=row_scale,
        )
    return _DistilledSoftmax.apply(  # type: ignore[no-untyped-call]
        queries, items, columns, spec, row_scale, backend
    )


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
    too_large = False
    if queries.device.type == "cuda" and forced() is None:
        logits_bytes = queries.shape[0] * queries.shape[1] * items.shape[1] * items.element_size()
        too_large = logits_bytes > spec.memory_budget * stored_chunks(device_of(queries))
    return _chosen(queries.device.type, queries.dtype, too_large)


def _chosen(device_type: str, dtype: torch.dtype, too_large: bool) -> str:
    def takes(backend: str) -> str | None:
        names = ", ".join(map(str, DTYPES[backend]))
        return None if dtype in DTYPES[backend] else f"it takes {names}; got {dtype}"

    def stored_on_cuda(device_type: str) -> str | None:
        budget = "the logits take too many chunks of the memory budget" if too_large else None
        return cuda_extension_missing(device_type) or takes("cuda") or budget

    return choose(
        OP,
        device_type,
        {
            "cuda": stored_on_cuda,
            "triton": lambda device: triton_missing(device) or takes("triton"),
            "cpu": lambda device: extension_missing(device) or takes("cpu"),
            "reference": runs_anywhere,
        },
    )


# A compiled graph keeps the answer it was traced with.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _only_reference(device_type: str, dtype: torch.dtype) -> bool:
    return _chosen(device_type, dtype, False) == "reference"


def _engine(backend: str) -> Any:
    return import_module(f"odmt_fast.kernels.distilled_softmax.{ENGINES[backend]}")


class _DistilledSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        columns: Columns,
        spec: Spec,
        row_scale: Tensor | None,
        backend: str,
    ) -> tuple[Tensor, Tensor]:
        engine = _engine(backend)
        ce, kd, stats, logits = engine.forward(queries, items, columns, spec, row_scale)
        ctx.save_for_backward(queries, items, row_scale, stats, *columns)
        ctx.spec, ctx.backend, ctx.logits = spec, backend, logits
        return ce, kd

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g_ce: Tensor, g_kd: Tensor) -> tuple[Tensor | None, ...]:
        queries, items, row_scale, stats, *columns = ctx.saved_tensors
        # The engine overwrites the logits: a second backward has to compute them again.
        logits, ctx.logits = ctx.logits, None
        d_queries, d_items = _engine(ctx.backend).backward(
            (g_ce, g_kd), queries, items, Columns(*columns), ctx.spec, row_scale, stats, logits
        )
        return d_queries, d_items, None, None, None, None


@torch.library.custom_op("odmt_fast::distilled_softmax", mutates_args=())
def _forward_op(
    queries: Tensor,
    items: Tensor,
    log_p: Tensor,
    counts: Tensor,
    targets: Tensor,
    row_user: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    row_scale: Tensor | None,
    tau: float,
    students: Sequence[int],
    teachers: Sequence[int],
    detach_teacher: bool,
    memory_budget: int,
) -> tuple[Tensor, Tensor, Tensor]:
    columns = Columns(log_p, counts, targets, row_user, history_offsets, history)
    spec = Spec(tau, tuple(zip(students, teachers, strict=True)), detach_teacher, memory_budget)
    if queries.shape[1] == 0:
        empty = queries.new_empty((0, stats_width(len(queries))), dtype=torch.float32)
        zeros = empty.new_zeros(len(queries) + len(students))
        return zeros[: len(queries)].clone(), zeros[len(queries) :].clone(), empty
    backend = _backend(queries, items, spec)
    ce, kd, stats, _ = _engine(backend).forward(queries, items, columns, spec, row_scale)
    return ce, kd, stats


@_forward_op.register_fake
def _(
    queries: Tensor,
    items: Tensor,
    log_p: Tensor,
    counts: Tensor,
    targets: Tensor,
    row_user: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    row_scale: Tensor | None,
    tau: float,
    students: Sequence[int],
    teachers: Sequence[int],
    detach_teacher: bool,
    memory_budget: int,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = accumulation_dtype(queries.dtype)
    branches, rows = queries.shape[:2]
    return (
        queries.new_empty(branches, dtype=dtype),
        queries.new_empty(len(students), dtype=dtype),
        queries.new_empty((rows, stats_width(branches)), dtype=torch.float32),
    )


@torch.library.custom_op("odmt_fast::distilled_softmax_backward", mutates_args=())
def _backward_op(
    g_ce: Tensor,
    g_kd: Tensor,
    queries: Tensor,
    items: Tensor,
    log_p: Tensor,
    counts: Tensor,
    targets: Tensor,
    row_user: Tensor,
    history_offsets: Tensor,
    history: Tensor,
    row_scale: Tensor | None,
    stats: Tensor,
    tau: float,
    students: Sequence[int],
    teachers: Sequence[int],
    detach_teacher: bool,
    memory_budget: int,
) -> tuple[Tensor, Tensor]:
    columns = Columns(log_p, counts, targets, row_user, history_offsets, history)
    spec = Spec(tau, tuple(zip(students, teachers, strict=True)), detach_teacher, memory_budget)
    if queries.shape[1] == 0:
        return torch.zeros_like(queries), torch.zeros_like(items)
    backend = _backend(queries, items, spec)
    d_queries, d_items = _engine(backend).backward(
        (g_ce, g_kd), queries, items, columns, spec, row_scale, stats, None
    )
    return d_queries, d_items


@_backward_op.register_fake
def _(
    g_ce: Tensor,
    g_kd: Tensor,
    queries: Tensor,
    items: Tensor,
    *_: Any,
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(queries), torch.empty_like(items)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:9], output[2])
    ctx.settings = inputs[9:]


def _op_backward(ctx: Any, g_ce: Tensor, g_kd: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, stats = ctx.saved_tensors
    d_queries, d_items = _backward_op(g_ce, g_kd, *tensors, stats, *ctx.settings)
    return d_queries, d_items, *(None,) * 12


_forward_op.register_autograd(_op_backward, setup_context=_setup_context)
