"""What the operator tests share: the interpreter's repairs, poisoned memory, the accuracy rule."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from accuracy import assert_within, error
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
NoWorse = Callable[..., None]


def _repair_interpreter() -> None:
    """Triton's interpreter keeps bfloat16 as its bits; products and rounding must not use those.

    Nor may a result depend on the machine's BLAS, whose float32 products of some shapes are ten
    times less exact than those of others: products are exact before they are rounded to float32.
    """
    from triton import language as tl
    from triton.runtime import interpreter

    builder, handle = interpreter.InterpreterBuilder, interpreter.TensorHandle
    convert = interpreter._convert_float

    def widened(x: interpreter.TensorHandle) -> np.ndarray:
        if x.dtype.scalar == tl.bfloat16:
            return (x.data.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return x.data.astype(np.float64)

    def dot(self: object, a: Any, b: Any, d: Any, *rest: object) -> object:
        product = (widened(a) @ widened(b)).astype(d.data.dtype)
        return handle(product + d.data, d.dtype.scalar)

    def convert_float(x: np.ndarray, source: object, target: object, mode: object) -> np.ndarray:
        if source != tl.float32 or target != tl.bfloat16:
            return convert(x, source, target, mode)
        bits = np.ascontiguousarray(x).view(np.uint32)
        nearest_even = bits + 0x7FFF + ((bits >> 16) & 1)
        return np.where(np.isnan(x), 0x7FC0, nearest_even >> 16).astype(np.uint16)

    builder.create_dot = dot
    interpreter._convert_float = convert_float


if INTERPRETED:  # before any kernel is imported
    _repair_interpreter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Triton decides at import whether it interprets: such tests need a process of their own."""
    skip = pytest.mark.skip(reason="needs TRITON_INTERPRET=1 (make test-interpret)")
    for item in items:
        if "interpreter" in item.keywords and not INTERPRETED:
            item.add_marker(skip)


@pytest.fixture
def poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uninitialised float memory is NaN: an output element a kernel forgets cannot look right."""

    def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def made(*arguments: object, **options: object) -> Tensor:
            x = make(*arguments, **options)
            return x.fill_(float("nan")) if x.dtype.is_floating_point else x

        return made

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    monkeypatch.setattr(Tensor, "new_empty", poisoned(Tensor.new_empty))


@pytest.fixture
def no_worse() -> NoWorse:
    """The accuracy rule against the result of the eager reference in the same dtype."""

    def check(name: str, got: Tensor, gold: Tensor, naive: Tensor) -> None:
        assert got.dtype == naive.dtype, name
        assert_within(name, got, gold, [error(naive, gold)], floor=1e-6)

    return check


@pytest.fixture(autouse=True)
def no_compiled_graphs() -> None:
    """A graph of another test must not count against the limit of recompilations."""
    torch.compiler.reset()


@pytest.fixture
def seed() -> Tensor:
    """Negative and wider than 32 bits: both halves of the key matter."""
    return torch.tensor([-1234567890123456])


@pytest.fixture(params=["blas", "by fp32", "onednn", "onednn, few rows at a time"])
def product_route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the products of linear maps through each route they have on a CPU, whatever the size
    and the processor."""
    from odmt_fast.kernels.feed_forward import cpu as feed_forward
    from odmt_fast.kernels.linear import cpu, libraries

    by_name = "onednn" in request.param
    dtype = request.node.callspec.params.get("dtype", torch.float32)
    if by_name and not libraries.onednn_runs(dtype):
        pytest.skip(f"oneDNN has no linear map of {dtype} here")
    choice = libraries.Libraries(by_name, by_name, bf16_is_fast=request.param != "by fp32")
    monkeypatch.setattr(cpu, "_ONEDNN_WORK", 0)
    monkeypatch.setattr(libraries, "_chosen", choice)
    if "few" in request.param:
        monkeypatch.setattr(cpu, "_COPIED_ROWS", 16)
        monkeypatch.setattr(feed_forward, "_PART_ROWS", 16)


@pytest.fixture
def with_gradients() -> Callable[..., list[Tensor]]:
    """(function, float64 tensors, dtype) -> its result in dtype and every tensor's gradient."""

    def run(
        function: Callable[..., Tensor], tensors: list[Tensor], dtype: torch.dtype
    ) -> list[Tensor]:
        inputs = [t.detach().to(dtype).requires_grad_() for t in tensors]
        y = function(*inputs)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(dtype))
        return [y, *(t.grad for t in inputs)]

    return run
