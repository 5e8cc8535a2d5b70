"""AdamW behind the clipping of the gradient norm, over all tensors of a model at once."""

from odmt_fast.kernels.adamw.op import adamw, runs_fast
from odmt_fast.kernels.adamw.tables import Entry, Resident, Tables

__all__ = ["Entry", "Resident", "Tables", "adamw", "runs_fast"]
