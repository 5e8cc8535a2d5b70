"""Launches of the flash engine's kernels compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.distilled_softmax.bwd import distilled_softmax_bwd
from odmt_fast.kernels.distilled_softmax.fwd import distilled_softmax_fwd
from odmt_fast.kernels.distilled_softmax.reference import ENSEMBLE, Edge
from odmt_fast.kernels.distilled_softmax.spec import Spec, stats_width
from odmt_fast.kernels.launch.aot import AotCase, meta

ROWS, COLUMNS, USERS = 6000, 5000, 1024  # enough rows for several panels
SMALL = (75, 86)  # 64 and 99 KB of shared memory
BF16, FP16, FP32, INT32 = torch.bfloat16, torch.float16, torch.float32, torch.int32


def _edges(branches: int) -> tuple[Edge, ...]:
    """All others learn from branch 0, branch 0 from the ensemble."""
    return (*((student, 0) for student in range(1, branches)), (0, ENSEMBLE))


def _launch(branches: int, d: int, edges: tuple[Edge, ...], dtype: torch.dtype) -> None:
    candidates = Candidates(
        log_p=meta(COLUMNS, dtype=FP32),
        counts=meta(COLUMNS, dtype=INT32),
        targets=meta(ROWS, dtype=torch.int64),
        row_user=meta(ROWS, dtype=INT32),
        history_offsets=meta(USERS + 1, dtype=INT32),
        history=meta(ROWS + USERS, dtype=INT32),
    )
    queries, items = meta(branches, ROWS, d, dtype=dtype), meta(branches, COLUMNS, d, dtype=dtype)
    spec = Spec(tau=0.3, edges=edges, detach_teacher=False, memory_budget=1)
    distilled_softmax_fwd(queries, items, candidates, spec, None)
    upstream = meta(branches, dtype=FP32), meta(len(edges), dtype=FP32)
    row_scale, stats = meta(ROWS, dtype=FP32), meta(ROWS, stats_width(branches), dtype=FP32)
    distilled_softmax_bwd(upstream, queries, items, candidates, spec, row_scale, stats)


def _case(
    branches: int,
    dtype: torch.dtype,
    *,
    d: int = 768,
    distil: bool = True,
    official: bool = False,
    architectures: tuple[int, ...] | None = None,
) -> AotCase:
    edges = _edges(branches) if distil else ()
    return AotCase(
        f"K = {branches}, {len(edges)} edges, width {d}, {str(dtype)[6:]}",
        lambda: _launch(branches, d, edges, dtype),
        official=official,
        architectures=architectures,
    )


AOT_CASES = (
    _case(3, BF16, official=True),
    _case(4, BF16),
    _case(5, BF16),
    _case(1, BF16, distil=False, architectures=(80, 90)),
    _case(3, BF16, d=100, architectures=(80, 90)),
    _case(3, FP32, architectures=(80, 90)),
    _case(5, FP32, architectures=(80, 90)),
    _case(3, FP16, architectures=SMALL),
    _case(5, FP16, architectures=SMALL),
    _case(3, FP32, architectures=SMALL),
)
