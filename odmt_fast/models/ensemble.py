"""The ensemble as one inner product (DESIGN identity 7), of all branches or of those known.

The ensemble's score is a mean over branches of ``u_k . e_k``: the inner product of the branches'
vectors side by side, the items' divided by the number of branches. Where a branch knows nothing of
an item (an ID row that was never trained, a text or picture that is missing) the mean may go over
the others: the item's vector is zero in that branch and divided by the number of the rest. Ranking
and search take these vectors as they are, so both are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from odmt_fast.features.store import TokenStore
from odmt_fast.models.base import SequentialModel


def item_vectors(catalogue: Tensor, known: Tensor | None = None) -> Tensor:
    """[n, K d] from embeddings [K, n, d].

    Args:
        catalogue: embeddings of the items.
        known: bool [K, n], branches that count for an item, at least one each; None = all.
    """
    if known is not None:
        catalogue = catalogue * known.unsqueeze(-1)
    flat = catalogue.transpose(0, 1).flatten(1)
    return flat / (catalogue.shape[0] if known is None else known.sum(0).unsqueeze(-1))


def user_vectors(states: Tensor) -> Tensor:
    """[B, K d] from states [K, B, d]."""
    return states.transpose(0, 1).flatten(1)


def known_branches(model: SequentialModel) -> Tensor:
    """bool [K, n_items + 1], what the branches of a trained `model` know of its items.

    The ID branch knows the items of the training interactions; that of a modality those which its
    token store has something of, and every item where the features are of another kind.
    """
    known = {"id": model.log_p.isfinite()}
    for source in model.sources:
        if isinstance(source, TokenStore):
            has = torch.ones(source.n_items + 1, dtype=torch.bool)
            has[list(source.missing)] = False
            known[source.modality] = has
    return stacked(model.branches, known, model.n_items + 1).to(model.log_p.device)


def stacked(branches: Sequence[str], known: Mapping[str, Tensor], n: int) -> Tensor:
    """bool [K, n], what is known by branch; all of an item that no branch knows anything of.

    Args:
        branches: names of the K branches.
        known: branch -> bool [n]; one that is absent knows all items.
        n: items.
    """
    every = torch.ones(n, dtype=torch.bool)
    rows = torch.stack([known.get(name, every).cpu() for name in branches])
    return rows | ~rows.any(0)
