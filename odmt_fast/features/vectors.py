"""A modality that comes as vectors, one token of each item; nothing is encoded."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from odmt_fast.features.encoder import Encoder, EncoderIdentity
from odmt_fast.storage import Digest

GIVEN = "vectors"
"""Name of the identity of stores that no encoder made."""


@dataclass(frozen=True, eq=False)
class Vector:
    """Of one item.

    Attributes:
        values: float32 [d].
    """

    values: NDArray[Any]

    def digest(self) -> str:
        """Of its values."""
        return Digest().add_array(self.values).hex


class VectorTokens(Encoder[Vector]):
    """Each vector as a token.

    Args:
        width: d.
    """

    max_length = 1

    def __init__(self, width: int) -> None:
        self.dim = width
        weights = hashlib.sha256(b"vectors 1").hexdigest()
        self.identity = EncoderIdentity(name=GIVEN, layer=None, weights=weights, settings={})

    def encode(self, inputs: Sequence[Vector]) -> Iterator[tuple[int, Tensor]]:
        """Yields (index, float32 [1, d])."""
        for position, vector in enumerate(inputs):
            yield position, torch.from_numpy(vector.values)[None]
