"""The passes of the compiled extension over the scores [K, M, U] and over their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.launch.device import on_device_of
from odmt_fast.kernels.launch.dry import run

SCALARS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""Numbers of the storage types in the extension (csrc/distilled_rows.h)."""


def prepared(candidates: Candidates) -> Candidates:
    """The candidates as the extension reads them: contiguous, log_p in fp32."""
    log_p, *indices = candidates
    return Candidates(log_p.float().contiguous(), *(x.contiguous() for x in indices))


def pointers(candidates: Candidates) -> Any:
    """The addresses of prepared candidates, for one call; the caller keeps the tensors alive."""
    from odmt_fast import _C

    return _C.CandidatePointers(
        columns=candidates.log_p.numel(),
        users=candidates.history_offsets.numel() - 1,
        history_size=candidates.history.numel(),
        log_p=candidates.log_p.data_ptr(),
        counts=candidates.counts.data_ptr(),
        targets=candidates.targets.data_ptr(),
        row_user=candidates.row_user.data_ptr(),
        history_offsets=candidates.history_offsets.data_ptr(),
        history=candidates.history.data_ptr(),
    )


def stream(tensor: Tensor) -> int:
    """The handle of the current CUDA stream of the tensor's device."""
    return torch.cuda.current_stream(tensor.device).cuda_stream


def forward(scores: Tensor, candidates: Candidates) -> Tensor:
    """fp32 logits of fp32, bf16 or (on CUDA) fp16 scores."""
    scores = scores.contiguous()
    out = torch.empty_like(scores, dtype=torch.float32)
    _run(scores, out, candidates, forward=True)
    return out


def backward(gradient: Tensor, candidates: Candidates, dtype: torch.dtype) -> Tensor:
    """The gradient of the scores, in their dtype."""
    gradient = gradient.contiguous()
    out = torch.empty_like(gradient, dtype=dtype)
    _run(gradient, out, candidates, forward=False)
    return out


def _run(source: Tensor, out: Tensor, candidates: Candidates, *, forward: bool) -> None:
    from odmt_fast import _C

    own = prepared(candidates)
    branches, rows = source.shape[:2]
    narrow = source.dtype if forward else out.dtype
    shape = {"branches": branches, "rows": rows, "candidates": pointers(own)}
    from_, to = source.data_ptr(), out.data_ptr()
    if source.device.type == "cuda":
        with on_device_of(source):
            run(
                _C.debiased_rows_cuda,
                from_,
                to,
                scalar=SCALARS[narrow],
                forward=forward,
                stream=stream(source),
                **shape,
            )
    elif forward:
        run(_C.debiased_rows_forward, scores=from_, out=to, bf16=narrow == torch.bfloat16, **shape)
    else:
        run(
            _C.debiased_rows_backward,
            gradient=from_,
            out=to,
            bf16=narrow == torch.bfloat16,
            **shape,
        )
