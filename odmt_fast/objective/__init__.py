"""The loss: cross entropy of every branch and online distillation between them."""

from __future__ import annotations

from odmt_fast.objective.loss import LossTerms, edges, objective
from odmt_fast.objective.ramp import ramp_up

__all__ = ["LossTerms", "edges", "objective", "ramp_up"]
