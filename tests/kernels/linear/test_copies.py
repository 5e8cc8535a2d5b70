"""Kept copies of master weights: as if they were cast anew, and forgotten with their weight."""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from odmt_fast.kernels.feed_forward import feed_forward
from odmt_fast.kernels.linear import cast, copies, linear


def kept(*shape: int) -> nn.Parameter:
    weight = nn.Parameter(torch.randn(shape))
    copies.keep([weight])
    return weight


def current(weight: Tensor) -> Tensor | None:
    return copies.keep([weight])[0].current(weight)


def test_a_kept_copy_has_value_and_gradient_of_a_cast() -> None:
    weight, x = kept(4, 3), torch.randn(5, 3).bfloat16()
    plain = nn.Parameter(weight.detach().clone())
    for _ in range(2):
        for w, narrow in ((weight, cast(weight, x.dtype)), (plain, plain.to(x.dtype))):
            w.grad = None
            (x @ narrow.T).square().sum().backward()
        assert torch.equal(weight.grad, plain.grad) and weight.grad.dtype == torch.float32
    first = current(weight)
    assert first is not None and cast(weight, x.dtype).data_ptr() == first.data_ptr()
    assert cast(weight, torch.float32) is weight
    assert cast(weight, torch.float16).dtype == torch.float16
    assert cast(plain, x.dtype).data_ptr() != cast(plain, x.dtype).data_ptr()


def test_a_weight_that_changed_is_cast_anew() -> None:
    weight = kept(4, 3)
    cast(weight, torch.bfloat16)
    with torch.no_grad():
        weight.add_(1)
    assert torch.equal(cast(weight, torch.bfloat16), weight.bfloat16())
    weight.data = torch.zeros(4, 3)
    assert not cast(weight, torch.bfloat16).any()


def test_inference_mode_leaves_nothing_behind() -> None:
    weight = kept(4, 3)
    with torch.inference_mode():
        assert torch.equal(cast(weight, torch.bfloat16), weight.bfloat16())
    cast(weight, torch.bfloat16).sum().backward()
    assert not cast(weight, torch.bfloat16).is_inference()


def test_a_copy_goes_with_its_weight() -> None:
    before = len(copies._kept)
    weight = kept(4, 3)
    cast(weight, torch.bfloat16)
    assert len(copies._kept) == before + 1
    del weight
    gc.collect()
    assert len(copies._kept) == before


class Casts(TorchDispatchMode):
    """Counts the conversions to another dtype."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        self.count += func is torch.ops.aten._to_copy.default
        return func(*args, **(kwargs or {}))


def test_linear_maps_of_kept_weights_cast_none() -> None:
    # The reference runs where there are no rows, as on a GPU.
    weights = [kept(4, 3), kept(4), kept(8, 4), kept(8), kept(4, 8), kept(4)]
    for expected in (len(weights), 0):
        with Casts() as casts:
            y = linear(torch.ones(0, 3, dtype=torch.bfloat16), *weights[:2])
            feed_forward(y, *weights[2:])
        assert casts.count == expected
