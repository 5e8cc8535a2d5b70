"""Embeddings of items that nobody has bought, from their texts and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from odmt_fast.config import ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.features.further import StoreEncoder
from odmt_fast.features.store import TokenStore
from odmt_fast.features.tokens import TokenTable, first_tokens
from odmt_fast.models.base import SequentialModel
from odmt_fast.models.initial import id_start
from odmt_fast.models.users.base import UserEncoder
from odmt_fast.models.zoo import MODELS
from odmt_fast.randomness import torch_generator

_IDS = "id_embedding.weight"
_WEIGHTS, _STATE = "weights/", "state/"


@dataclass(frozen=True, eq=False)
class ItemSide:
    """The item encoder, and what makes the features it reads.

    Attributes:
        weights: its state dict, less the table of IDs.
        encoders: of its modalities, in its order.
        seed: ``training.seed``, which decides the ID row of a new item together with its name.
        id_rows: rows of the table of IDs in training, which its initial values depend on.
    """

    weights: Mapping[str, Tensor]
    encoders: tuple[StoreEncoder, ...]
    seed: int
    id_rows: int

    @classmethod
    def of(cls, model: SequentialModel, seed: int) -> ItemSide | None:
        """That of `model`; None where it reads IDs alone, or features that no encoder here makes.

        Args:
            model: trained, over token stores.
            seed: ``training.seed``.
        """
        stores = [source for source in model.sources if isinstance(source, TokenStore)]
        encoders = [encoder for store in stores if (encoder := StoreEncoder.of(store))]
        if not encoders or len(encoders) != len(model.sources):
            return None
        weights = {k: v for k, v in model.items.state_dict().items() if k != _IDS}
        return cls(weights, tuple(encoders), seed, model.n_items + 1)

    def to_tensors(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """As tensors and JSON values."""
        tensors = {_WEIGHTS + name: value for name, value in self.weights.items()}
        tensors |= {_STATE + encoder.modality: encoder.state for encoder in self.encoders}
        encoders = [
            {
                "modality": encoder.modality,
                "identity": encoder.identity,
                "dim": encoder.dim,
                "dtype": encoder.dtype,
            }
            for encoder in self.encoders
        ]
        return tensors, {"encoders": encoders, "seed": self.seed, "id_rows": self.id_rows}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> ItemSide:
        """The inverse of `to_tensors`."""
        return cls(
            {k.removeprefix(_WEIGHTS): v for k, v in tensors.items() if k.startswith(_WEIGHTS)},
            tuple(
                StoreEncoder(**entry, state=tensors[_STATE + entry["modality"]])
                for entry in values["encoders"]
            ),
            values["seed"],
            values["id_rows"],
        )

    @torch.no_grad()
    def encode(self, items: ItemTable, settings: ModelConfig) -> Tensor:
        """Embeddings [K, n, d] of new items, on the CPU.

        An item's ID row is what it would have begun training with: drawn, or its first tokens, as
        ``model.id_init`` says. It depends on the seed and the item alone, not on those beside it.

        Args:
            items: ids, texts and pictures of the n new items.
            settings: of the model.

        Raises:
            ValueError: an encoder cannot be loaded, is another one, or a picture cannot be read.
        """
        sources: dict[str, TokenTable] = {
            encoder.modality: encoder.tokens(items) for encoder in self.encoders
        }
        with torch.device("meta"):
            encoder, loss = MODELS[settings.name](settings, len(items), sources)
        encoder.to_empty(device="cpu")
        missing, unexpected = encoder.load_state_dict(dict(self.weights), strict=False)
        assert set(missing) <= {_IDS} and not unexpected, (missing, unexpected)
        if missing:
            table = encoder.get_submodule("id_embedding")
            assert isinstance(table, nn.Embedding)
            table.weight.copy_(self.id_rows_of(items, settings, sources, table.embedding_dim))
        shares = torch.ones(len(items) + 1)
        nobody = UserEncoder(settings.max_seq_len)
        model = SequentialModel(encoder, nobody, loss, shares, tuple(sources.values()))
        return model.encode_catalogue()[:, 1:]

    def id_rows_of(
        self,
        items: ItemTable,
        settings: ModelConfig,
        sources: Mapping[str, TokenTable],
        width: int,
    ) -> Tensor:
        """What the ID rows of new items begin as.

        Args:
            items: the n items.
            settings: of the model.
            sources: their tokens by modality.
            width: of a row.

        Returns:
            [n + 1, width], row 0 padding.
        """
        firsts = {name: first_tokens(source) for name, source in sources.items()}
        start = id_start(settings, firsts)
        if start is not None:
            return start
        # As xavier_normal draws a row of the whole table.
        deviation = math.sqrt(2 / (self.id_rows + width))
        rows = [
            torch.randn(width, generator=torch_generator(self.seed, f"new item {item}"))
            for item in items.ids
        ]
        return torch.stack([torch.zeros(width), *rows]) * deviation
