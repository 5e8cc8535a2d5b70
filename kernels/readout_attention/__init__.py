"""Attention of a few readout queries over the raw hidden states of a segment."""

from __future__ import annotations

from odmt_fast.kernels.readout_attention.op import readout_attention

__all__ = ["readout_attention"]
