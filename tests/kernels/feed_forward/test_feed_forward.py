"""feed_forward against float64, forward and every gradient, with and without groups."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from feed_forward_cases import arguments, assert_as_exact_as_torch
from torch import Tensor

from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.feed_forward import feed_forward

needs_extension = pytest.mark.skipif(
    extension_missing("cpu") is not None, reason=str(extension_missing("cpu"))
)


@needs_extension
@pytest.mark.usefixtures("product_route")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("groups", "rows", "width", "hidden"),
    [(None, 1, 8, 32), (None, 37, 24, 50), (None, 300, 64, 256), (3, 9, 16, 64), (2, 70, 33, 65)],
)
def test_no_worse_than_twice_the_eager_error(
    with_gradients: Callable[..., list[Tensor]],
    groups: int | None,
    rows: int,
    width: int,
    hidden: int,
    dtype: torch.dtype,
) -> None:
    assert_as_exact_as_torch((groups, rows, width, hidden), dtype, with_gradients)


def test_float64_runs_the_reference_and_passes_gradcheck() -> None:
    inputs = [t.requires_grad_() for t in arguments(2, 6, 4, 5)]
    assert torch.autograd.gradcheck(feed_forward, inputs)


@needs_extension
def test_master_weights_get_gradients_in_their_own_dtype() -> None:
    x, *weights = arguments(None, 5, 8, 16)
    weights = [w.float().requires_grad_() for w in weights]
    y = feed_forward(x.bfloat16(), *weights)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert all(w.grad is not None and w.grad.dtype == torch.float32 for w in weights)


@needs_extension
@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64], ids=str)
def test_the_default_dtype_does_not_matter(
    with_gradients: Callable[..., list[Tensor]],
    default: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("odmt_fast.kernels.feed_forward.cpu._PART_ROWS", 16)
    tensors = arguments(None, 37, 24, 50)
    expected = with_gradients(feed_forward, tensors, torch.float32)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        got = with_gradients(feed_forward, tensors, torch.float32)
    finally:
        torch.set_default_dtype(before)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_compiles_as_one_graph() -> None:
    tensors = [t.float() for t in arguments(None, 7, 8, 16)]
    compiled = torch.compile(feed_forward, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*tensors), feed_forward(*tensors))


def test_a_wrong_shape_is_named() -> None:
    x, up, up_bias, down, down_bias = arguments(None, 5, 8, 16)
    with pytest.raises(ValueError, match=r"down must be \[8, 16\], got \[16, 8\]"):
        feed_forward(x, up, up_bias, down.t(), down_bias)
