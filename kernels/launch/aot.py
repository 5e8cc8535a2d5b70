"""A launch to compile ahead of time: how an operator registers its kernels for `bench.aot`.

An operator folder with Triton kernels has a module ``aot.py`` with ``AOT_CASES``, a tuple of
:class:`AotCase`. Each calls the operator's own launch functions on meta tensors, so what is
compiled is what would be launched: same tile table, same specialisation, no second list to keep.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AotCase:
    """One call of launch functions at one shape.

    Attributes:
        name: shape and dtype, for the table.
        launch: calls launch functions on meta tensors; the device is assumed by the caller
            (`launch.device.assume`).
        official: at the official shapes: a test compiles it for sm_80, sm_90 and sm_100 and refuses
            any spill; the others are only listed in the report.
        wgmma: whether every kernel of the launch must use warp-group matrix products on sm_90.
        architectures: where to compile it; None is sm_80, sm_90 and sm_100.
    """

    name: str
    launch: Callable[[], object]
    official: bool = False
    wgmma: bool = False
    architectures: tuple[int, ...] | None = None


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """A tensor without storage."""
    return torch.empty(shape, dtype=dtype, device="meta")
