"""Ramp-up of the distillation weight (official model.py::sigmoid_rampup)."""

from __future__ import annotations

import math


def ramp_up(epoch: float, alpha: float) -> float:
    """w = exp(-5 (1 - min(epoch, alpha) / alpha)^2) for alpha >= 1, else the constant alpha."""
    if alpha < 1:
        return alpha
    phase = 1.0 - min(max(epoch, 0.0), alpha) / alpha
    return math.exp(-5.0 * phase * phase)
