"""The accuracy rule itself: what it lets pass, what it refuses, what it computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from accuracy import assert_no_worse, assert_within
from torch import Tensor

Run = Callable[..., list[Tensor]]
EXACT = torch.tensor([1.0, -4.0], dtype=torch.float64)


def test_twice_the_worst_eager_error_and_half_a_unit_are_allowed() -> None:
    half = 2 * torch.finfo(torch.float32).eps
    got = (EXACT + torch.tensor([0, 0.2])).float()
    assert_within("y", got, EXACT, [0.05, 0.1 + half])
    with pytest.raises(AssertionError, match=r"y: error 0\.2, allowed 0\.19"):
        assert_within("y", got, EXACT, [0.05, 0.095])


def test_what_is_not_finite_or_of_another_shape_is_refused() -> None:
    with pytest.raises(AssertionError, match="y is not finite"):
        assert_within("y", torch.tensor([1.0, float("nan")]), EXACT, [1e9])
    with pytest.raises(AssertionError, match="should be"):
        assert_within("y", torch.ones(3), EXACT, [1e9])


def test_no_more_is_drawn_than_needed() -> None:
    def errors():  # type: ignore[no-untyped-def]
        yield 1.0
        raise AssertionError("drawn in vain")

    assert_within("y", EXACT.float() + 1, EXACT, errors())


def test_a_sloppy_function_is_refused_though_problems_are_nudged(with_gradients: Run) -> None:
    tensors = [torch.linspace(1, 2, 40, dtype=torch.float64).float().double()]

    def sloppy(x: Tensor) -> Tensor:
        return x.exp() * (1 + 1e-5)

    for dtype in (torch.float32, torch.bfloat16):
        exact = [t.to(dtype).double() for t in tensors]
        assert_no_worse(("y", "dx"), torch.exp, torch.exp, exact, dtype, with_gradients)
    with pytest.raises(AssertionError, match="y: error"):
        assert_no_worse(("y", "dx"), sloppy, torch.exp, tensors, torch.float32, with_gradients)
