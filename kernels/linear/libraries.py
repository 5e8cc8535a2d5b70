"""Which library multiplies on the CPU: found out by trying and timing, not from a vendor's name.

torch multiplies fp32 by MKL (or another BLAS), which on some processors leaves half of the vector
units idle; oneDNN, which torch ships too, does not, but is called by entries that torch calls
private. bf16 products are oneDNN's; where the processor has no instruction for them they are tens
of times slower than fp32, and are then computed in fp32 and rounded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

_WIDTH, _ROWS, _FEW_ROWS = 768, 1024, 64
_REPEATS = 8
# A library must be this much faster to be preferred, so that noise decides nothing.
_MARGIN = 1.05


@dataclass(frozen=True)
class Libraries:
    """The choice, and the rates it rests on (GFLOP/s at width 768; 0 = cannot run).

    Attributes:
        fp32_by_onednn: large fp32 products go to oneDNN's own entries.
        bf16_by_onednn: single bf16 maps go to oneDNN's linear map, ReLU included.
        bf16_is_fast: bf16 products run in bf16; else in fp32, and are rounded.
        matmul_fp32, onednn_fp32, matmul_bf16: what was measured.
    """

    fp32_by_onednn: bool
    bf16_by_onednn: bool
    bf16_is_fast: bool
    matmul_fp32: float = 0.0
    onednn_fp32: float = 0.0
    matmul_bf16: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Libraries:
        """The inverse of `to_json`, less what cannot run here.

        Raises:
            TypeError, KeyError: `values` is something else.
        """
        kept = cls(**values)
        return replace(
            kept,
            fp32_by_onednn=kept.fp32_by_onednn and onednn_runs(torch.float32),
            bf16_by_onednn=kept.bf16_by_onednn and onednn_runs(torch.bfloat16),
        )


_chosen: Libraries | None = None


def current() -> Libraries:
    """The choice of this process; measured once, in about 0.3 s, unless `use` was called before."""
    global _chosen
    if _chosen is None:
        _chosen = measure()
    return _chosen


def use(libraries: Libraries | None) -> None:
    """Makes a choice that was measured before; None measures again when it is needed."""
    global _chosen
    _chosen = libraries


def narrow(x: Tensor) -> bool:
    """Whether products of x must be computed in fp32 and rounded to its dtype."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and not _bf16_is_fast()


# Measured when a graph is made, never traced into it.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _bf16_is_fast() -> bool:
    return current().bf16_is_fast


def bmm(left: Tensor, right: Tensor) -> Tensor:
    """left [G, n, k] right [G, k, m] -> [G, n, m], in fp32 in between where `narrow`."""
    if narrow(left):
        return torch.bmm(left.float(), right.float()).to(left.dtype)
    return torch.bmm(left, right)


@cache
def onednn_runs(dtype: torch.dtype) -> bool:
    """Whether torch has oneDNN's linear map for `dtype` here, and it computes what it should."""
    x, weight = torch.eye(4, 8, dtype=dtype), torch.arange(32.0).view(4, 8).to(dtype)
    try:
        y = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        if dtype == torch.float32:
            gradient, _ = torch.ops.aten.mkldnn_linear_backward_weights(
                x.to_mkldnn(), x.to_mkldnn(), torch.empty(8, 8), False
            )
            if not torch.equal(gradient.to_dense(), x.t() @ x):
                return False
        return torch.equal(y, (x.float() @ weight.float().t()).to(dtype))
    # Absent from this torch, of another signature, or without a primitive on this processor.
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False


def measure() -> Libraries:
    """Times the products of a linear map of width 768 by each library that can compute them."""
    weight = torch.linspace(-1, 1, _WIDTH * _WIDTH).view(_WIDTH, _WIDTH)
    x = torch.linspace(-1, 1, _ROWS * _WIDTH).view(_ROWS, _WIDTH)
    products: list[Callable[[], object]] = [lambda: x @ weight.t()]
    if onednn_runs(torch.float32):
        product = torch.ops.mkldnn._linear_pointwise
        products.append(lambda: product(x, weight, None, "none", [], ""))
    fp32, *others = _rates(products, _ROWS)
    onednn = others[0] if others else 0.0
    few, narrow_few, narrow_weight = x[:_FEW_ROWS], x[:_FEW_ROWS].bfloat16(), weight.bfloat16()
    exact, bf16 = _rates(
        [lambda: _three(few, weight), lambda: _three(narrow_few, narrow_weight)], 3 * _FEW_ROWS
    )
    return Libraries(
        fp32_by_onednn=onednn > _MARGIN * fp32,
        bf16_by_onednn=onednn_runs(torch.bfloat16),
        bf16_is_fast=bf16 > _MARGIN * exact,
        matmul_fp32=round(fp32, 1),
        onednn_fp32=round(onednn, 1),
        matmul_bf16=round(bf16, 1),
    )


def _three(x: Tensor, weight: Tensor) -> None:
    """Forward, input gradient and weight gradient; some are slow where another is not."""
    y = x @ weight.t()
    _ = y @ weight, y.t() @ x


def _rates(products: Sequence[Callable[[], object]], rows: int) -> list[float]:
    """GFLOP/s of products of `rows` rows by [768, 768], each by its fastest of some runs.

    They take turns, and the fastest run counts, so that what else the machine does weighs on none.
    """
    best = [float("inf")] * len(products)
    for run in range(_REPEATS + 1):
        for which, product in enumerate(products):
            began = time.perf_counter()
            product()
            if run:  # the first makes kernels
                best[which] = min(best[which], time.perf_counter() - began)
    return [2e-9 * rows * _WIDTH * _WIDTH / seconds for seconds in best]
