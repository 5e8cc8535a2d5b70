"""Dropout, residual sum and LayerNorm in one pass."""

from __future__ import annotations

from odmt_fast.kernels.residual_norm.op import residual_norm

__all__ = ["residual_norm"]
