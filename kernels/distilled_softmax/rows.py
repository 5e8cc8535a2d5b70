"""The row passes of the compiled extension on torch tensors, on the CPU or a CUDA device.

A pass reads logits [K, m, U] (u . e in fp32, bf16 or, on CUDA, fp16; columns
contiguous, rows a stride apart, branches after each other), debiases, weighs
and masks them on the fly and either reduces every row to its statistics or writes the gradient of
every logit, over the logits themselves if asked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from odmt_fast.kernels.debiased_logits.passes import SCALARS, pointers, stream
from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.distilled_softmax.spec import Spec
from odmt_fast.kernels.launch.device import on_device_of
from odmt_fast.kernels.launch.dry import run


def forward(
    logits: Tensor,
    candidates: Candidates,
    spec: Spec,
    row_scale: Tensor,
    stats: Tensor,
    totals: Tensor,
) -> None:
    """Fills stats [m, W]; adds the losses, ce then kd, times row_scale to totals [K + E] fp64."""
    from odmt_fast import _C

    branches, rows = logits.shape[:2]
    common = {
        "logits": logits.data_ptr(),
        "branches": branches,
        "rows": rows,
        "stride": logits.stride(1),
        "candidates": pointers(candidates),
        "edges": spec.edges,
        "tau": spec.tau,
        "row_scale": row_scale.data_ptr(),
        "stats": stats.data_ptr(),
    }
    if logits.device.type == "cpu":
        bf16 = logits.dtype == torch.bfloat16
        run(_C.distilled_rows_forward, **common, bf16=bf16, totals=totals.data_ptr())
        return
    terms = totals.new_empty((rows, totals.numel()), dtype=torch.float32)
    with on_device_of(logits):
        run(
            _C.distilled_rows_cuda_forward,
            **common,
            scalar=SCALARS[logits.dtype],
            terms=terms.data_ptr(),
            stream=stream(logits),
        )
    totals += terms.sum(0, dtype=torch.float64)


def backward(
    logits: Tensor,
    gradients: Tensor,
    candidates: Candidates,
    spec: Spec,
    row_scale: Tensor,
    stats: Tensor,
    upstream: tuple[Tensor, Tensor],
) -> None:
    """Writes the gradients of the logits, over them where the two are one; upstream: ce, kd."""
    from odmt_fast import _C

    g_ce, g_kd = upstream
    branches, rows = logits.shape[:2]
    common = {
        "logits": logits.data_ptr(),
        "gradients": gradients.data_ptr(),
        "branches": branches,
        "rows": rows,
        "stride": logits.stride(1),
        "candidates": pointers(candidates),
        "edges": spec.edges,
        "tau": spec.tau,
        "row_scale": row_scale.data_ptr(),
        "stats": stats.data_ptr(),
        "g_ce": g_ce.data_ptr(),
        "g_kd": g_kd.data_ptr(),
        "detach_teacher": spec.detach_teacher,
    }
    if logits.device.type == "cpu":
        run(_C.distilled_rows_backward, **common, bf16=logits.dtype == torch.bfloat16)
        return
    with on_device_of(logits):
        run(
            _C.distilled_rows_cuda_backward,
            **common,
            scalar=SCALARS[logits.dtype],
            stream=stream(logits),
        )
