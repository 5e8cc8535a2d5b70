"""One token an item: what another encoder says of it in one vector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from odmt_fast.features.encoder import Encoder, EncoderIdentity, Input, Pooling


class Pooled(Encoder[Input]):
    """The tokens of another encoder as one: their mean, or the summary token alone.

    Args:
        whole: gives all tokens of an item, a summary token first.
        pooling: "mean" or "summary".
    """

    max_length = 1

    def __init__(self, whole: Encoder[Input], pooling: Pooling) -> None:
        self._whole, self._pooling = whole, pooling
        self.dim, self.group = whole.dim, whole.group

    # Read each time: an encoder that is fitted has its identity only then.
    @property
    def identity(self) -> EncoderIdentity:  # type: ignore[override]
        """That of the whole, and how it is pooled."""
        whole: EncoderIdentity = self._whole.identity
        settings: dict[str, Any] = {**whole.settings, "pooling": self._pooling}
        return replace(whole, settings=settings)

    def fit(self, inputs: Sequence[Input], state: Path) -> None:
        """Fits the whole."""
        self._whole.fit(inputs, state)

    def save(self, state: Path) -> None:
        """Keeps what the whole learnt."""
        self._whole.save(state)

    def encode(self, inputs: Sequence[Input]) -> Iterator[tuple[int, Tensor]]:
        """Yields (index, float32 [1, dim])."""
        for place, states in self._whole.encode(inputs):
            yield place, states[:1] if self._pooling == "summary" else states.mean(0, keepdim=True)
