"""Launches of the packed_attention kernels compiled ahead of time (`bench.aot`)."""

from __future__ import annotations

import torch

from odmt_fast.kernels.launch.aot import AotCase, meta
from odmt_fast.kernels.packed_attention.bwd import packed_attention_bwd
from odmt_fast.kernels.packed_attention.fwd import packed_attention_fwd
from odmt_fast.kernels.packed_attention.problem import Problem

SEED = meta(1, dtype=torch.int64)
SMALL = (75, 86)  # 64 and 99 KB of shared memory


def _launch(tokens: int, d: int, longest: int, mask: str, dtype: torch.dtype, p: float) -> None:
    q, k, v = meta(tokens, 3, 2, d, dtype=dtype).unbind(1)
    dout, lse = meta(tokens, 2, d, dtype=dtype), meta(tokens, 2, dtype=torch.float32)
    cu = meta(723, dtype=torch.int32)
    problem = Problem(q, k, v, cu, SEED, longest, mask, d**-0.5, p, 1)
    packed_attention_fwd(problem)
    packed_attention_bwd(problem, dout, lse)


def _case(
    name: str,
    longest: int,
    mask: str,
    dtype: torch.dtype,
    *,
    d: int = 384,
    p: float = 0.1,
    official: bool = False,
    wgmma: bool = False,
    architectures: tuple[int, ...] | None = None,
) -> AotCase:
    return AotCase(
        f"{name}, L <= {longest}, head {d}, {mask}, {str(dtype)[6:]}, dropout {p}",
        lambda: _launch(722 * 69, d, longest, mask, dtype, p),
        official=official,
        wgmma=wgmma,
        architectures=architectures,
    )


BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
AOT_CASES = (
    _case("items", 81, "asymmetric", BF16, official=True, wgmma=True),
    _case("users", 12, "causal", BF16, official=True, wgmma=True),
    _case("items", 81, "asymmetric", BF16, p=0.0, architectures=(80, 90)),
    _case("users", 12, "causal", BF16, p=0.0, architectures=(80, 90)),
    _case("items", 81, "symmetric", FP16, d=24, official=True, architectures=(90,)),
    _case("items", 81, "asymmetric", FP32, architectures=(80, 90)),
    _case("users", 12, "causal", FP32, architectures=(80, 90)),
    _case("users", 200, "causal", BF16, architectures=(80, 90)),
    _case("users", 512, "causal", BF16, architectures=(80, 90)),
    _case("users", 200, "causal", FP32, official=True, architectures=(90,)),
    _case("users", 200, "causal", FP32, p=0.0, architectures=(80, 100)),
    _case("users", 512, "causal", FP32, architectures=(80, 90, 100)),
    _case("items", 81, "asymmetric", FP16, official=True, architectures=(75,)),
    _case("items", 81, "asymmetric", FP16, architectures=(86,)),
    _case("users", 12, "causal", FP16, architectures=SMALL),
    _case("users", 200, "causal", FP16, architectures=SMALL),
    _case("users", 512, "causal", FP16, architectures=SMALL),
    _case("items", 81, "asymmetric", FP32, architectures=SMALL),
    _case("users", 12, "causal", FP32, architectures=SMALL),
    _case("users", 200, "causal", FP32, architectures=(86,)),
)
