"""A shop as a GPU meets one: full-length users, the whole catalogue, batches from the loader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from odmt_fast.batch import Batch, BatchLoader, Collator
from odmt_fast.config import Config
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable
from odmt_fast.models import SequentialModel
from odmt_fast.models.zoo import build
from odmt_fast.training.placement import Placement, batch_sources, placement_of

_BLOCK = 4096  # random tokens; a table repeats them, for no kernel looks at values


@dataclass(frozen=True)
class Shop:
    """Random users and features of the official sizes.

    Every user has S + 1 items, drawn by a power law over the whole catalogue, whose ID table, text
    and image tokens are all there, in fp16 as in a store.

    Attributes:
        users: in all; no two steps of an epoch have a user in common.
        items: of the catalogue.
        width: d, also of the features.
        steps: S.
        text_tokens: the most text tokens an item has; lengths are uniform on 8..text_tokens.
        image_tokens: tokens of every image.
        seed: of everything.
    """

    users: int = 20_000
    items: int = 100_000
    width: int = 768
    steps: int = 12
    text_tokens: int = 30
    image_tokens: int = 50
    seed: int = 1

    @property
    def config(self) -> Config:
        """The official settings, on whatever device."""
        model = {"width": self.width, "max_seq_len": self.steps, "tau": 0.3}
        training = {"learning_rate": 1e-4, "seed": self.seed}
        return Config.model_validate({"model": model, "training": training})

    @cached_property
    def _share(self) -> NDArray[np.float64]:
        """Of items 1..n."""
        share = np.arange(1, self.items + 1) ** -0.85
        return share / share.sum()

    @property
    def popularity(self) -> NDArray[np.float64]:
        """[n + 1] shares; 1 for the padding."""
        return np.concatenate([[1.0], self._share])

    @cached_property
    def sequences(self) -> Sequences:
        """Of all users."""
        length = self.steps + 1
        drawn = np.random.default_rng(self.seed).random(self.users * length)
        items = 1 + np.searchsorted(self._share.cumsum(), drawn).clip(max=self.items - 1)
        return Sequences(items, np.arange(self.users + 1) * length)

    @cached_property
    def sources(self) -> dict[str, TokenTable]:
        """Packed tokens of all items."""
        rng = np.random.default_rng(self.seed)
        text = rng.integers(8, self.text_tokens + 1, self.items)
        image = np.full(self.items, self.image_tokens)
        return {"text": self._table(text), "image": self._table(image)}

    def _table(self, lengths: NDArray[np.int64]) -> TokenTable:
        offsets = torch.zeros(self.items + 2, dtype=torch.int64)
        offsets[2:] = torch.from_numpy(lengths).cumsum(0)
        generator = torch.Generator().manual_seed(self.seed)
        block = torch.randn(_BLOCK, self.width, generator=generator).half()
        values = torch.empty(int(offsets[-1]), self.width, dtype=torch.float16)
        for part in torch.split(values, _BLOCK):
            part.copy_(block[: len(part)])
        return TokenTable(values, offsets)

    def placement(self, device: torch.device) -> Placement:
        """Where a run would keep the tokens, and its loader's threads."""
        return placement_of(self.config, list(self.sources.values()), device)

    def collator(self, device: torch.device) -> Collator:
        """Of batches whose tokens lie where a run on `device` keeps them."""
        place = self.placement(device).residency
        sources = batch_sources(list(self.sources.values()), place, device)
        return Collator(self.sequences, self.steps, sources)

    def loader(self, collate: Collator, batch_size: int, device: torch.device) -> BatchLoader:
        """As a run on `device` has it."""
        workers = self.placement(device).workers
        return BatchLoader(
            collate, batch_size=batch_size, seed=self.seed, device=device, workers=workers
        )

    def model(self) -> SequentialModel:
        """With fresh weights, in training mode."""
        generator = torch.Generator().manual_seed(self.seed)
        return build(self.config, self.popularity, self.sources, generator=generator)


def endless(loader: BatchLoader) -> Iterator[Batch]:
    """The batches of epoch after epoch; no two are alike."""
    epoch = 0
    while True:
        epoch += 1
        yield from loader.epoch(epoch)
