"""Launches of the readout_attention kernels compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.launch.aot import AotCase, meta
from odmt_fast.kernels.readout_attention.bwd import readout_attention_bwd
from odmt_fast.kernels.readout_attention.fwd import readout_attention_fwd
from odmt_fast.kernels.readout_attention.problem import Problem

SEED = meta(1, dtype=torch.int64)
SMALL = (75, 86)  # 64 and 99 KB of shared memory


def _launch(longest: int, dtype: torch.dtype, p: float) -> None:
    queries, hidden = meta(722, 3, 2, 768, dtype=dtype), meta(722 * 69, 768, dtype=dtype)
    lse = meta(722, 3, 2, dtype=torch.float32)
    cu = meta(723, dtype=torch.int32)
    problem = Problem(queries, hidden, cu, SEED, longest, "asymmetric", 384**-0.5, p)
    readout_attention_fwd(problem)
    readout_attention_bwd(problem, queries, lse)


def _case(
    longest: int,
    dtype: torch.dtype,
    p: float = 0.1,
    official: bool = False,
    architectures: tuple[int, ...] | None = None,
) -> AotCase:
    return AotCase(
        f"722 items, L <= {longest}, 3 x 2 rows, width 768, {str(dtype)[6:]}, dropout {p}",
        lambda: _launch(longest, dtype, p),
        official=official,
        architectures=architectures,
    )


BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
AOT_CASES = (
    _case(81, BF16, official=True),
    _case(81, BF16, p=0.0, architectures=(80, 90)),
    _case(81, FP32, architectures=(80, 90)),
    _case(200, BF16, architectures=(80, 90)),
    _case(512, BF16, architectures=(80, 90)),
    _case(200, FP32, official=True, architectures=(80,)),
    _case(512, FP32, architectures=(80, 90)),
    _case(30, FP16, architectures=SMALL),
    _case(81, FP16, official=True, architectures=(75,)),
    _case(81, FP16, architectures=(86,)),
    _case(81, FP32, architectures=SMALL),
    _case(200, FP16, architectures=SMALL),
    _case(200, FP32, architectures=SMALL),
)
