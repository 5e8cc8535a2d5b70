"""Master weights in the dtype of the products, kept from step to step.

Under autocast every linear map casts its weights in every step: a launch, a read and a write each.
The optimiser that changes the weights can write their copies on the way (`kernels/adamw`). A copy
is trusted while its weight has the address and the version (`Tensor._version`) it was made of:
whatever else torch does to a weight in place makes it be cast anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


class Kept:
    """The copy of one weight, once there is one."""

    __slots__ = ("_address", "_tensor", "_version")

    def __init__(self) -> None:
        self._tensor: Tensor | None = None
        self._version = self._address = 0

    def current(self, weight: Tensor) -> Tensor | None:
        """The copy, if it equals `weight` rounded."""
        same = self._version == weight._version and self._address == weight.data_ptr()
        return self._tensor if same else None

    def rewritten(self, weight: Tensor, copy: Tensor) -> None:
        """Declares that `copy` is now that of `weight`."""
        self._tensor, self._version, self._address = copy, weight._version, weight.data_ptr()


_kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # weight -> Kept


def keep(weights: Iterable[Tensor]) -> list[Kept]:
    """From now on `cast` keeps the copies it makes of these weights, as long as they live."""
    return [_kept.setdefault(weight, Kept()) for weight in weights]  # type: ignore[no-untyped-call]


def cast(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """`weight` in `dtype`, with its gradient; a kept copy where there is one."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return weight.to(dtype)  # of no use to a training step later
    if weight.dtype == dtype or not _kept:
        return weight.to(dtype)
    kept: Kept | None = _kept.get(weight)  # type: ignore[no-untyped-call]
    if kept is None:
        return weight.to(dtype)
    copy = kept.current(weight)
    if copy is None or copy.dtype != dtype:
        copy = weight.detach().to(dtype)
        kept.rewritten(weight, copy)
    return _Cast.apply(weight, copy)  # type: ignore[no-untyped-call]


class _Cast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, copy: Tensor) -> Tensor:
        ctx.dtype = weight.dtype
        return copy.detach()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.to(ctx.dtype), None
