"""The gathered_rows kernels in Triton's interpreter, against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accuracy import assert_no_worse
from torch import Tensor

from odmt_fast.kernels.gathered_rows import gathered_rows
from odmt_fast.kernels.gathered_rows.bwd import row_sums
from odmt_fast.kernels.gathered_rows.reference import gathered_rows_reference

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_empty")]

# Groups, rows, width, steps: more rows than a program orders, more steps than it looks at together.
SHAPES = [(3, 37, 24, 300), (1, 5, 1, 9), (2, 12, 300, 40), (1, 1, 8, 20), (2, 16, 8, 1)]


def steps(rows: int, count: int) -> Tensor:
    torch.manual_seed(rows)
    return (torch.rand(count) ** 2 * rows).long()  # some rows often, some never


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_no_worse_than_twice_the_eager_error(
    with_gradients: Callable[..., list[Tensor]], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    groups, rows, width, count = shape
    index = steps(rows, count)
    table = torch.randn(groups, rows, width, dtype=torch.float64).to(dtype).double()
    assert_no_worse(
        ("rows", "dtable"),
        lambda table: gathered_rows(table, index),
        lambda table: gathered_rows_reference(table, index),
        [table],
        dtype,
        with_gradients,
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_narrow_gradient_is_summed_into_a_wide_table(shape: tuple[int, ...]) -> None:
    groups, rows, width, count = shape
    index, grad = steps(rows, count), torch.randn(groups * count, width).bfloat16()
    made, again = (row_sums(grad, index, groups, rows, torch.float32) for _ in range(2))
    exact = torch.zeros(groups, rows, width, dtype=torch.float64)
    exact.index_add_(1, index, grad.double().view(groups, count, width))
    torch.testing.assert_close(made.double(), exact, rtol=1e-6, atol=1e-6)
    assert torch.equal(made, again) and made.dtype == torch.float32
    table = torch.randn(groups, rows, width, requires_grad=True)
    narrow = gathered_rows(table, index, torch.bfloat16)
    narrow.backward(grad)
    assert narrow.dtype == torch.bfloat16 and torch.equal(table.grad, made)


def test_no_steps() -> None:
    table = torch.randn(2, 4, 3, requires_grad=True)
    gathered_rows(table, torch.zeros(0, dtype=torch.int64)).sum().backward()
    assert table.grad is not None and not table.grad.any()
