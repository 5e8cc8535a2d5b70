"""The training batch the benches use: official sizes, realistic lengths and popularity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from odmt_fast import ODMT, ModelConfig
from odmt_fast.batch.batch import Batch
from odmt_fast.features.tokens import TokenTable
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.official.reference import Model

EPOCH = 5
"""The epoch of the benches: a ramp-up weight that is neither 0 nor 1."""


@dataclass(frozen=True)
class Workload:
    """Random features of the official sizes and a batch of users.

    Sequence lengths are 3 to S + 1, most of them short (mean about 6, as in the Amazon review
    data); items follow a power law, so that a batch repeats the popular ones as real batches do.
    Only the items that occur get features, and are renumbered 1..n in the order of popularity.

    Attributes:
        users: B.
        width: d, also of the features.
        text_tokens: the most text tokens an item has; lengths are uniform on 8..text_tokens.
        image_tokens: tokens of every image.
        items: catalogue size.
        dropout: probability.
        layers: IMT layers and heads.
        seed: of everything.
    """

    users: int = 64
    width: int = 768
    steps: int = 12
    text_tokens: int = 30
    image_tokens: int = 50
    items: int = 5000
    dropout: float = 0.1
    layers: int = 2
    seed: int = 1

    @property
    def config(self) -> ModelConfig:
        """The official architecture."""
        return ModelConfig(
            width=self.width,
            max_seq_len=self.steps,
            imt_layers=self.layers,
            dropout=self.dropout,
            tau=0.3,
            alpha=20,
        )

    @cached_property
    def sequences(self) -> list[Tensor]:
        """One int64 [n_b] of items per user."""
        generator = torch.Generator().manual_seed(self.seed)
        extra = torch.empty(self.users).exponential_(1 / 4.2, generator=generator).long()
        lengths = (3 + extra).clamp(max=self.steps + 1)
        weights = torch.arange(1, self.items + 1, dtype=torch.float64) ** -0.85
        drawn = torch.multinomial(weights, int(lengths.sum()), True, generator=generator)
        _, items = torch.unique(drawn, return_inverse=True)
        return list(torch.split(items + 1, lengths.tolist()))

    @cached_property
    def batch(self) -> Batch:
        """The batch's index arrays; `packed_batch` has the tokens too."""
        return self._batch_of(self.sequences)

    def batch_without(self, user: int) -> Batch:
        """The batch of all users but one: other items, another number of rows and tokens."""
        return self._packed(self._batch_of([s for u, s in enumerate(self.sequences) if u != user]))

    def _batch_of(self, sequences: list[Tensor]) -> Batch:
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        return Batch(**batch_index(torch.cat(sequences), lengths, self.steps)._asdict())

    @cached_property
    def packed_batch(self) -> Batch:
        """The batch with the tokens of its items."""
        return self._packed(self.batch)

    @cached_property
    def sources(self) -> tuple[TokenTable, TokenTable]:
        """Packed text and image tokens of all items."""
        text, mask, image = self.features
        return TokenTable.from_padded(text, mask), TokenTable.from_padded(image)

    def _packed(self, batch: Batch) -> Batch:
        return batch.with_features(tuple(s.gather(batch.items) for s in self.sources))

    @cached_property
    def padded(self) -> tuple[Tensor, Tensor]:
        """item_ids [B, S + 1] left-padded with 0, log_mask [B, S]."""
        item_ids = torch.zeros(self.users, self.steps + 1, dtype=torch.int64)
        log_mask = torch.zeros(self.users, self.steps)
        for user, sequence in enumerate(self.sequences):
            item_ids[user, -len(sequence) :] = sequence
            log_mask[user, self.steps - len(sequence) + 1 :] = 1
        return item_ids, log_mask

    @cached_property
    def used_items(self) -> int:
        """Items that occur; all have features."""
        return self.batch.items.shape[0]

    @cached_property
    def features(self) -> tuple[Tensor, Tensor, Tensor]:
        """text [n + 1, T, d], its mask [n + 1, T], image [n + 1, V, d]."""
        generator = torch.Generator().manual_seed(self.seed)
        n = self.used_items + 1
        text = torch.randn(n, self.text_tokens, self.width, generator=generator)
        image = torch.randn(n, self.image_tokens, self.width, generator=generator)
        lengths = torch.randint(8, self.text_tokens + 1, (n,), generator=generator)
        mask = (torch.arange(self.text_tokens) < lengths[:, None]).float()
        return text, mask, image

    def forget_padded_features(self) -> None:
        """Frees what only the padded implementations read; asked for again, it is made again."""
        self.__dict__.pop("features", None)

    @cached_property
    def popularity(self) -> Tensor:
        """Shares [n + 1] by a power law."""
        share = torch.arange(1, self.used_items + 1, dtype=torch.float64) ** -0.85
        return torch.cat([torch.ones(1, dtype=torch.float64), share / share.sum()])

    def reference(self) -> Model:
        """The padded model, in training mode."""
        text, mask, image = self.features
        torch.manual_seed(self.seed)
        return Model(
            self.config,
            self.popularity,
            self.used_items,
            {"text": text, "image": image},
            {"text": mask},
        )

    def engine(self) -> ODMT:
        """Ours, with the features of the batch's items packed, in training mode."""
        torch.manual_seed(self.seed)
        return ODMT(self.config, self.popularity, self.used_items, *self.sources)
