"""feed_forward with the ReLU's backward in Triton's interpreter, against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from feed_forward_cases import arguments, assert_as_exact_as_torch
from torch import Tensor

from odmt_fast.kernels.feed_forward import feed_forward, gpu
from odmt_fast.kernels.feed_forward.bwd import relu_bwd

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_empty")]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("groups", "rows", "width", "hidden"),
    [(None, 1, 8, 32), (None, 37, 24, 50), (3, 9, 16, 64), (2, 22, 33, 515)],
)
@pytest.mark.parametrize("one_product", [False, True])
def test_no_worse_than_twice_the_eager_error(
    with_gradients: Callable[..., list[Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    groups: int | None,
    rows: int,
    width: int,
    hidden: int,
    dtype: torch.dtype,
    one_product: bool,
) -> None:
    monkeypatch.setattr(gpu, "_one_product_runs", lambda device, dtype: one_product)
    assert_as_exact_as_torch((groups, rows, width, hidden), dtype, with_gradients)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_gradient_passes_where_the_activation_does(groups: int, dtype: torch.dtype) -> None:
    hidden, given = (torch.randn(21, 70).to(dtype) for _ in range(2))
    hidden[0, 0], hidden[1, 1] = 0.0, float("nan")
    expected = torch.ops.aten.threshold_backward(given, hidden, 0)
    got, again = given.clone(), given.clone()
    bias = relu_bwd(got, hidden, groups)
    assert torch.equal(got, expected)
    exact = expected.double().view(groups, -1, 70).sum(1)
    torch.testing.assert_close(bias.double(), exact, rtol=1e-6, atol=1e-6)
    assert torch.equal(relu_bwd(again, hidden, groups), bias)


def test_masters_get_gradients_in_their_own_dtype_and_layout() -> None:
    x, *weights = arguments(3, 9, 8, 16)
    weights = [w.float().requires_grad_() for w in weights]
    feed_forward(x.bfloat16(), *weights).float().sum().backward()
    for weight in weights:
        assert weight.grad is not None and weight.grad.dtype == torch.float32
        assert weight.grad.is_contiguous()


def test_rows_keep_their_dtype_under_autocast() -> None:
    x, *weights = (t.float().requires_grad_() for t in arguments(None, 5, 8, 16))
    with torch.autocast("cpu", torch.bfloat16):
        y = feed_forward(x, *weights)
    assert y.dtype == torch.float32
    y.sum().backward()


def test_torchs_relu_at_the_end_of_a_product_is_one() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert gpu._one_product_runs(torch.device("cpu"), dtype)
