"""linear against float64, by every route its products can take on a CPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accuracy import assert_no_worse
from thread_bits import skip_where_products_depend_on_threads
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.linear import linear
from odmt_fast.kernels.linear.reference import linear_reference
from odmt_fast.kernels.linear.row_products import sum_of_row_products

needs_extension = pytest.mark.skipif(
    extension_missing("cpu") is not None, reason=str(extension_missing("cpu"))
)
SHAPES = [(None, 1, 8, 32), (None, 37, 24, 50), (None, 300, 64, 96), (3, 9, 16, 64), (2, 70, 33, 5)]


def arguments(groups: int | None, rows: int, inner: int, outer: int) -> list[Tensor]:
    torch.manual_seed(rows)
    g = () if groups is None else (groups,)
    shapes = [(rows, inner), (*g, outer, inner), (*g, outer)]
    return [torch.randn(shape, dtype=torch.float64) / shape[-1] ** 0.5 for shape in shapes]


@needs_extension
@pytest.mark.usefixtures("product_route")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("groups", "rows", "inner", "outer"), SHAPES)
def test_no_worse_than_twice_the_eager_error(
    with_gradients: Callable[..., list[Tensor]],
    groups: int | None,
    rows: int,
    inner: int,
    outer: int,
    bias: bool,
    dtype: torch.dtype,
) -> None:
    tensors = [t.to(dtype).double() for t in arguments(groups, rows, inner, outer)]
    tensors = tensors if bias else tensors[:2]
    names = ("y", "dx", "dW", "db")
    assert_no_worse(names, linear, linear_reference, tensors, dtype, with_gradients)


@needs_extension
def test_frozen_inputs_cost_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from odmt_fast.kernels.linear import cpu

    def fail(*arguments: object) -> Tensor:
        raise AssertionError("the gradient of a frozen input was computed")

    monkeypatch.setattr(cpu, "input_gradient", fail)
    x, weight, bias = (t.float() for t in arguments(None, 5, 8, 16))
    y = linear(x, weight.requires_grad_(), bias.requires_grad_())
    y.sum().backward()
    assert weight.grad is not None and bias.grad is not None


@needs_extension
def test_master_weights_get_gradients_in_their_own_dtype() -> None:
    x, weight, bias = arguments(None, 5, 8, 16)
    weight, bias = (t.float().requires_grad_() for t in (weight, bias))
    y = linear(x.bfloat16(), weight, bias)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    assert bias.grad is not None and bias.grad.dtype == torch.float32


@pytest.mark.parametrize("groups", [None, 2])
def test_float64_runs_the_reference_and_passes_gradcheck(groups: int | None) -> None:
    inputs = [t.requires_grad_() for t in arguments(groups, 6, 4, 5)]
    assert torch.autograd.gradcheck(linear, inputs)
    assert torch.autograd.gradcheck(linear, inputs[:2])


def test_compiles_as_one_graph() -> None:
    tensors = [t.float() for t in arguments(None, 7, 8, 16)]
    compiled = torch.compile(linear, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*tensors), linear(*tensors))


def test_wrong_shapes_are_named() -> None:
    x, weight, bias = arguments(None, 5, 8, 16)
    with pytest.raises(ValueError, match=r"x must be \[R, a\] and the weight .* got \[5, 8\]"):
        linear(x, weight.t())
    with pytest.raises(ValueError, match=r"bias must be \[16\], got \[15\]"):
        linear(x, weight, bias[:15])
    with pytest.raises(ValueError, match="a multiple of 2 rows"):
        linear(x, torch.stack([weight, weight]))


@pytest.mark.parametrize("shape", [(1, 2100, 64, 256), (3, 1500, 48, 16)], ids=str)
def test_sums_over_rows_do_not_depend_on_the_number_of_threads(
    shape: tuple[int, int, int, int],
) -> None:
    skip_where_products_depend_on_threads()
    groups, rows, b, a = shape
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.randn(groups, rows, n, generator=generator) for n in (b, a))
    allowed = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            found.append(sum_of_row_products(left, right))
    finally:
        torch.set_num_threads(allowed)
    assert all(torch.equal(product, found[0]) for product in found[1:])
    exact = left.double().transpose(1, 2) @ right.double()
    torch.testing.assert_close(found[0].double(), exact, atol=2e-4, rtol=1e-5)
