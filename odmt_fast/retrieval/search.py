"""The ensemble as one inner product (DESIGN identity 7).

The ensemble's score is the mean over branches of ``u_k . e_k``: the inner product of the branches'
vectors side by side, the items' divided by K. Any index of inner products serves these vectors;
`top_k` is the exact one.
"""

from __future__ import annotations

from torch import Tensor

from odmt_fast.kernels.top_k import top_k

__all__ = ["item_vectors", "top_k", "user_vectors"]


def item_vectors(catalogue: Tensor) -> Tensor:
    """[n_items + 1, K d] from embeddings [K, n_items + 1, d]; row 0 is padding."""
    return catalogue.transpose(0, 1).flatten(1) / catalogue.shape[0]


def user_vectors(states: Tensor) -> Tensor:
    """[B, K d] from states [K, B, d]."""
    return states.transpose(0, 1).flatten(1)
