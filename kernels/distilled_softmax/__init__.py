"""The training loss: cross entropy of every branch and distillation between them, in one pass."""

from odmt_fast.kernels.debiased_logits.reference import Columns
from odmt_fast.kernels.distilled_softmax.op import distilled_softmax
from odmt_fast.kernels.distilled_softmax.reference import ENSEMBLE, Edge

__all__ = ["ENSEMBLE", "Columns", "Edge", "distilled_softmax"]
