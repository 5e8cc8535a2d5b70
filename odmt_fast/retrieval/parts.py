"""What recommending needs of a trained model: no dataset, no features, no item encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from odmt_fast.config import ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.models.base import SequentialModel
from odmt_fast.models.users.base import UserEncoder


@dataclass(frozen=True, eq=False)
class KnownUsers:
    """Users whose histories are at hand.

    Attributes:
        names: of the users, as in the source, distinct.
        sequences: dense item ids of each, oldest first.
    """

    names: tuple[str, ...]
    sequences: Sequences

    @cached_property
    def rows(self) -> dict[str, int]:
        """Name -> row."""
        return {name: row for row, name in enumerate(self.names)}


NOBODY = KnownUsers((), Sequences.from_lists([]))
"""No user."""


@dataclass(frozen=True, eq=False)
class Parts:
    """A model's answer for every item, and its user encoder.

    Attributes:
        settings: of the model.
        branches: names of the K branches.
        catalogue: float [K, n_items + 1, d], embeddings of the items, on the device of the search;
            row 0 (padding) is zero.
        users: reads histories; in eval mode, on the same device.
        items: ids and titles; row i is dense item i + 1.
        known: users with their histories.

    Raises:
        ValueError: `items` or `branches` do not fit the catalogue.
    """

    settings: ModelConfig
    branches: tuple[str, ...]
    catalogue: Tensor
    users: UserEncoder
    items: ItemTable
    known: KnownUsers = NOBODY

    def __post_init__(self) -> None:
        branches, rows, _ = self.catalogue.shape
        if rows != len(self.items) + 1:
            raise ValueError(
                f"items has {len(self.items)} rows, the model knows {rows - 1}; pass the "
                "catalogue the model was trained on"
            )
        if branches != len(self.branches):
            raise ValueError(f"branches has {len(self.branches)} names for {branches} embeddings")

    @classmethod
    def of(
        cls,
        model: SequentialModel,
        settings: ModelConfig,
        items: ItemTable,
        known: KnownUsers = NOBODY,
    ) -> Parts:
        """Encodes the catalogue of a trained model, in fp32 on its device.

        Args:
            model: in eval mode.
            settings: what it was built with.
            items: the catalogue it was trained on.
            known: users with their histories.
        """
        with torch.no_grad():
            catalogue = model.encode_catalogue()
        return cls(settings, model.branches, catalogue, model.users, items, known)

    def without_users(self) -> Parts:
        """The same for strangers alone."""
        return replace(self, known=NOBODY)
