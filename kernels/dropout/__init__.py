"""Dropout whose mask is a function of (seed, element), equal on every backend and never stored."""

from __future__ import annotations

from odmt_fast.kernels.dropout.op import dropout

__all__ = ["dropout"]
