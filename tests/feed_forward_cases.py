"""Arguments of `feed_forward`, and what every backend of it must do with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from accuracy import assert_no_worse
from torch import Tensor

from odmt_fast.kernels.feed_forward import feed_forward
from odmt_fast.kernels.feed_forward.reference import feed_forward_reference


def arguments(groups: int | None, rows: int, width: int, hidden: int) -> list[Tensor]:
    torch.manual_seed(rows)
    g = () if groups is None else (groups,)
    shapes = [(rows, width), (*g, hidden, width), (*g, hidden), (*g, width, hidden), (*g, width)]
    return [torch.randn(shape, dtype=torch.float64) / shape[-1] ** 0.5 for shape in shapes]


def assert_as_exact_as_torch(
    sizes: tuple[int | None, int, int, int],
    dtype: torch.dtype,
    with_gradients: Callable[..., list[Tensor]],
) -> None:
    """Of arguments of `sizes`: no result or gradient is worse than twice the eager error."""
    tensors = [t.to(dtype).double() for t in arguments(*sizes)]
    assert_no_worse(
        ("y", "dx", "dU", "da", "dD", "db"),
        feed_forward,
        feed_forward_reference,
        tensors,
        dtype,
        with_gradients,
        # An activation rounded across zero is a jump in the gradient, for both.
        measure=torch.Tensor.norm,
    )
