"""Column sums, and the backward of a ReLU with its bias gradient, in C++."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from odmt_fast import _C

CASES = pytest.mark.parametrize("rows, width", [(0, 5), (1, 1), (17, 33), (300, 64), (5000, 20)])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def column_sum(x: Tensor, threads: int) -> Tensor:
    sums = torch.full((x.shape[1],), float("nan"))
    _C.column_sum(x.dtype == torch.bfloat16, *x.shape, x.data_ptr(), sums.data_ptr(), threads)
    return sums


def relu_backward_bias(dh: Tensor, h: Tensor, threads: int) -> Tensor:
    sums = torch.full((h.shape[1],), float("nan"))
    is_bf16 = h.dtype == torch.bfloat16
    _C.relu_backward_bias(is_bf16, *h.shape, dh.data_ptr(), h.data_ptr(), sums.data_ptr(), threads)
    return sums


@CASES
@DTYPES
def test_column_sum(isa: str, rows: int, width: int, dtype: torch.dtype) -> None:
    x = torch.randn(rows, width).to(dtype)
    gold = x.double().sum(0)
    torch.testing.assert_close(column_sum(x, 1).double(), gold, rtol=1e-5, atol=1e-4)
    assert torch.equal(column_sum(x, 1), column_sum(x, 2))


@CASES
@DTYPES
def test_relu_backward_bias(isa: str, rows: int, width: int, dtype: torch.dtype) -> None:
    h, upstream = (torch.randn(rows, width).to(dtype) for _ in range(2))
    h = h.relu()
    dh = upstream.clone()
    sums = relu_backward_bias(dh, h, 1)
    expected = upstream * (h > 0)
    assert torch.equal(dh, expected)
    torch.testing.assert_close(sums.double(), expected.double().sum(0), rtol=1e-5, atol=1e-4)
    assert torch.equal(relu_backward_bias(upstream.clone(), h, 2), sums)


def test_the_instruction_set_can_be_chosen() -> None:
    best = _C.isa()
    assert _C.use_isa("baseline") and _C.isa() == "baseline"
    assert not _C.use_isa("mmx") and _C.isa() == "baseline"
    assert _C.use_isa(best) and _C.isa() == best


def test_build_info_says_what_was_built() -> None:
    info = _C.build_info()
    assert set(info) == {"build", "compiler", "cuda", "openmp"}
    assert "baseline" in info["build"] and "-O3" in info["build"]
