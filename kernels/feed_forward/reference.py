"""The law of `feed_forward`: plain torch, any dtype, autograd does the gradients."""

from __future__ import annotations

from torch import Tensor

from odmt_fast.kernels.linear.reference import linear_reference


def feed_forward_reference(
    x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor
) -> Tensor:
    """See `feed_forward`."""
    return linear_reference(linear_reference(x, up, up_bias).relu(), down, down_bias)
