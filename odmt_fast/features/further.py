"""Tokens of items that came later, by the encoder that made a store."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from odmt_fast.features.brought import is_code
from odmt_fast.features.encoder import Encoder, EncoderOptions, Modality
from odmt_fast.features.extract import inputs_of
from odmt_fast.features.index import DTYPES, STATE_FILE, StoreError, canonical_json
from odmt_fast.features.registry import BUILT_IN, load_encoder
from odmt_fast.features.store import TokenStore
from odmt_fast.features.tokens import TokenTable
from odmt_fast.features.vectors import GIVEN

if TYPE_CHECKING:
    from odmt_fast.data import ItemTable

_OPTIONS = ("max_tokens", "lower_case", "pooling", "compute")
"""Settings of an identity that are options of the same name."""


@dataclass(frozen=True, eq=False)
class StoreEncoder:
    """What made a store, apart from it.

    Attributes:
        modality: "text" or "image".
        identity: of the encoder, as the index has it.
        dim: width of a token.
        dtype: how tokens are stored, a key of `DTYPES`.
        state: uint8 [bytes], the file of what the encoder was fitted to; empty where it was not.
    """

    modality: Modality
    identity: Mapping[str, Any]
    dim: int
    dtype: str
    state: Tensor

    @classmethod
    def of(cls, store: TokenStore) -> StoreEncoder | None:
        """That of `store`; None where it was made of vectors, or of a modality none here has."""
        made_here = store.modality in BUILT_IN.values() and store.encoder["name"] != GIVEN
        if not made_here:
            return None
        file = store.path / STATE_FILE
        state = np.fromfile(file, np.uint8) if file.is_file() else np.empty(0, np.uint8)
        return cls(
            cast(Modality, store.modality),
            store.encoder,
            store.dim,
            store.index.plan.dtype,
            torch.from_numpy(state),
        )

    def tokens(self, items: ItemTable) -> TokenTable:
        """Tokens of `items`; an item without the modality gets one zero token.

        Raises:
            StoreError: the encoder of that name is not the one that made the store, or it is code
            that somebody brought.
            ValueError: it cannot be loaded, or a picture cannot be read.
        """
        inputs = inputs_of(items, self.modality)
        found = [torch.zeros(1, self.dim)] * len(inputs)
        there = [row for row, value in enumerate(inputs) if value is not None]
        if there:
            for place, states in self._load().encode([inputs[row] for row in there]):
                found[there[place]] = states
        for item, states in zip(items.ids, found, strict=True):
            if not bool(states.isfinite().all()):
                raise ValueError(f"the {self.modality} features of item {item!r} are not finite")
        lengths = [len(states) for states in found]
        offsets = torch.tensor([0, *accumulate(lengths, initial=0)])
        return TokenTable(torch.cat(found).to(DTYPES[self.dtype]), offsets)

    def _load(self) -> Encoder[Any]:
        name, settings = self.identity["name"], self.identity["settings"]
        if is_code(name):
            raise StoreError(
                f"the {self.modality} features were made by the code {name!r}, which a run or "
                "bundle may not start; prepare and extract the catalogue with the new items"
            )
        options = {key: settings[key] for key in _OPTIONS if key in settings}
        if settings.get("preprocessing") == canonical_json({"normalisation": "official"}):
            options["normalisation"] = "official"
        encoder = load_encoder(
            name,
            self.modality,
            EncoderOptions(
                layer=self.identity["layer"],
                width=self.dim if name in BUILT_IN else None,
                **options,
            ),
        )
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder) / STATE_FILE
            if len(self.state):
                state.write_bytes(self.state.numpy().tobytes())
            encoder.fit([], state)
        loaded = encoder.identity.to_json()
        changed = [k for k in loaded if k != "name" and loaded[k] != self.identity[k]]
        if changed:
            raise StoreError(
                f"the {self.modality} features were made by {name!r} with other "
                f"{' and '.join(changed)}; bring the encoder that `odmt-fast extract` had"
            )
        return encoder
