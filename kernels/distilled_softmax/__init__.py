"""The training loss: cross entropy of every branch and distillation between them, in one pass."""

from odmt_fast.kernels.debiased_logits.reference import Candidates
from odmt_fast.kernels.distilled_softmax.op import SMALLEST_TAU, distilled_softmax
from odmt_fast.kernels.distilled_softmax.reference import ENSEMBLE, Edge
from odmt_fast.kernels.distilled_softmax.spec import MAX_BRANCHES

__all__ = ["ENSEMBLE", "MAX_BRANCHES", "SMALLEST_TAU", "Candidates", "Edge", "distilled_softmax"]
