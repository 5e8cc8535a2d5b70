"""A catalogue of several shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from odmt_fast.data import ItemTable
from odmt_fast.features.encoder import EncoderOptions
from odmt_fast.features.extract import extract


@dataclass(frozen=True)
class Drawn:
    """A picture that needs no file."""

    seed: int

    def load(self) -> Image.Image:
        """Noise."""
        pixels = np.random.default_rng(self.seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        return Image.fromarray(pixels)

    def digest(self) -> str:
        """Of the pixels, which the seed decides."""
        return str(self.seed)


def extract_both(folder: Path) -> None:
    """Ten items, two a shard, into FOLDER/text and FOLDER/image."""
    texts = [None if i == 3 else f"thing number {i} of ten" for i in range(10)]
    pictures = [None if i == 4 else Drawn(i) for i in range(10)]
    items = ItemTable([f"i{i}" for i in range(10)], texts, pictures)
    options = EncoderOptions(width=16)
    extract(items, "text", "hashed-words", folder / "text", options=options, shard_bytes=1_999)
    extract(items, "image", "pca-patches", folder / "image", options=options, shard_bytes=1_999)
