"""The position-wise network of a Transformer block."""

from odmt_fast.kernels.feed_forward.op import feed_forward

__all__ = ["feed_forward"]
