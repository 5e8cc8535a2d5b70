"""The ensemble as one inner product (DESIGN identity 7), of all branches or of those known.

The ensemble's score is a mean over branches of ``u_k . e_k``: the inner product of the branches'
vectors side by side, the items' divided by K. Where a branch knows nothing of an item (an ID row
that was never trained, a text or picture that is missing) the others can speak for it. The scores
of a branch mean something only beside each other, their level is free; so what is averaged over the
branches that know the item is how far it stands above an average item:

    s(u, i) = mean over known k of u_k . (e_k,i - c_k)  +  mean over all k of u_k . c_k

with ``c_k`` the mean vector of the items that branch k knows. An item that all branches know has
the score it always had. This too is one inner product, so ranking and search stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from odmt_fast.features.store import TokenStore
from odmt_fast.models.base import SequentialModel


@dataclass(frozen=True, eq=False)
class KnownBranches:
    """What the K branches know of the items.

    Attributes:
        known: bool [K, n_items + 1], at least one branch of every item.
        centre: [K, d], mean vector of the items that a branch knows.
    """

    known: Tensor
    centre: Tensor

    @classmethod
    def of(cls, model: SequentialModel, catalogue: Tensor) -> KnownBranches:
        """That of a trained model.

        The ID branch knows the items of the training interactions; that of a modality those which
        its token store has something of, and every item where the features are of another kind.

        Args:
            model: the model.
            catalogue: its embeddings [K, n_items + 1, d]; row 0 is padding.
        """
        by_name = {"id": model.log_p.isfinite()}
        for source in model.sources:
            if isinstance(source, TokenStore):
                has = torch.ones(source.n_items + 1, dtype=torch.bool)
                has[list(source.missing)] = False
                by_name[source.modality] = has
        known = stacked(model.branches, by_name, model.n_items + 1).to(catalogue.device)
        real = known[:, 1:].unsqueeze(-1)
        total = (catalogue[:, 1:].double() * real).sum(1)
        centre = total / real.sum(1).clamp(min=1)
        return cls(known, centre.to(catalogue.dtype))

    def part(self, start: int) -> KnownBranches:
        """Of the rows from `start` on."""
        return KnownBranches(self.known[:, start:], self.centre)

    def with_items(self, known: Tensor) -> KnownBranches:
        """With further items behind the others, of which `known` [K, n] is known."""
        return KnownBranches(torch.cat([self.known, known.to(self.known)], dim=1), self.centre)


def item_vectors(catalogue: Tensor, known: KnownBranches | None = None) -> Tensor:
    """[n, K d] from embeddings [K, n, d].

    Args:
        catalogue: embeddings of the items.
        known: what the branches know of them; None = everything.
    """
    plain = catalogue / catalogue.shape[0]
    if known is None:
        return plain.transpose(0, 1).flatten(1)
    centre = known.centre.unsqueeze(1)
    above = (catalogue - centre) * known.known.unsqueeze(-1)
    spoken_for = above / known.known.sum(0).unsqueeze(-1) + centre / catalogue.shape[0]
    vectors = torch.where(known.known.all(0).unsqueeze(-1), plain, spoken_for)
    return vectors.transpose(0, 1).flatten(1)


def user_vectors(states: Tensor) -> Tensor:
    """[B, K d] from states [K, B, d]."""
    return states.transpose(0, 1).flatten(1)


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
