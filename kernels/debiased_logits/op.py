"""`debiased_logits`: checks and choice of the backend."""

from __future__ import annotations

from torch import Tensor

from odmt_fast.kernels.backend import choose, runs_anywhere
from odmt_fast.kernels.debiased_logits import reference
from odmt_fast.kernels.debiased_logits.reference import Columns


def debiased_logits(queries: Tensor, items: Tensor, columns: Columns) -> Tensor:
    """Logits [K, M, U] of every row against the distinct columns.

    u . e - log p + log count; the target's column counts once; the user's other columns are NEG.

    Args:
        queries: [K, M, d] user states, fp32 | bf16 | fp16 | fp64.
        items: [K, U, d] item embeddings, same dtype.
        columns: what the columns mean, see `Columns`.

    Returns:
        fp32 (fp64 for fp64), differentiable in queries and items.
    """
    choose("debiased_logits", queries.device.type, {"reference": runs_anywhere})
    return reference.debiased_logits(queries, items, columns)
