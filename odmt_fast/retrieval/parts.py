"""What recommending needs of a trained model: no dataset, no features, no item encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from odmt_fast.config import Ensemble, ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.models.base import SequentialModel
from odmt_fast.models.ensemble import KnownBranches, stacked
from odmt_fast.models.users.base import UserEncoder
from odmt_fast.retrieval.approximate import Index
from odmt_fast.retrieval.item_side import ItemSide


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
        item_side: encodes further items; None where nothing is there that could.
        known_branches: what the branches know of the items, on the device of the catalogue, where
            those that do not know an item do not count in its score; None = all count.
        index: of the first items, by which lists are searched; None = exactly.

    Raises:
        ValueError: `items` or `branches` do not fit the catalogue.
    """

    settings: ModelConfig
    branches: tuple[str, ...]
    catalogue: Tensor
    users: UserEncoder
    items: ItemTable
    known: KnownUsers = NOBODY
    item_side: ItemSide | None = None
    known_branches: KnownBranches | None = None
    index: Index | None = None

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
        *,
        seed: int = 0,
        ensemble: Ensemble = "mean",
    ) -> Parts:
        """Encodes the catalogue of a trained model, in fp32 on its device.

        Args:
            model: in eval mode.
            settings: what it was built with.
            items: the catalogue it was trained on.
            known: users with their histories.
            seed: ``training.seed``, see `ItemSide`.
            ensemble: "known" lets a branch that knows nothing of an item not count in its score.
        """
        with torch.no_grad():
            catalogue = model.encode_catalogue()
        side = ItemSide.of(model, seed)
        counted = KnownBranches.of(model, catalogue) if ensemble == "known" else None
        return cls(settings, model.branches, catalogue, model.users, items, known, side, counted)

    def with_items(self, items: ItemTable) -> Parts:
        """The same with further items behind the others, which keep their vectors to the bit.

        Raises:
            ValueError: an item is known or there twice, or nothing is there that could encode it.
        """
        if self.item_side is None:
            raise ValueError(
                "nothing here encodes items: the model reads IDs alone or features of your own, "
                "or the bundle was exported with --no-item-encoder (item_encoder=False)"
            )
        seen = set(self.items.ids)
        for item in items.ids:
            if item in seen:
                raise ValueError(f"item {item!r} is in the catalogue already; leave it out")
            seen.add(item)
        if not items.ids:
            return self
        new = self.item_side.encode(items, self.settings).to(self.catalogue)
        whole = ItemTable(
            self.items.ids + items.ids,
            self.items.texts + items.texts,
            self.items.images + items.images,
        )
        return replace(
            self,
            catalogue=torch.cat([self.catalogue, new], dim=1),
            items=whole,
            known_branches=self._known_with(items),
        )

    def _known_with(self, items: ItemTable) -> KnownBranches | None:
        """`known_branches` with those of items that nobody has bought."""
        if self.known_branches is None:
            return None
        known = {
            "id": torch.zeros(len(items), dtype=torch.bool),
            "text": torch.tensor([bool(text and text.strip()) for text in items.texts]),
            "image": torch.tensor([image is not None for image in items.images]),
        }
        return self.known_branches.with_items(stacked(self.branches, known, len(items)))
