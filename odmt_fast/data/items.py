"""What is known about items: their names, their texts, and where their pictures are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ImageSource:
    """Where one picture is: an image file, or an entry of an LMDB in the official layout.

    Attributes:
        path: the image file, or the LMDB.
        key: the LMDB key; None for an image file.
    """

    path: Path
    key: str | None = None

    def load(self, *, longest: int | None = None) -> Image:
        """Decodes the picture.

        Args:
            longest: a hint: the caller needs no more than this many pixels a side, so that a JPEG
                may be decoded at a fraction of its size (never below the hint).

        Returns:
            A PIL image, mode RGB.

        Raises:
            DataError: it is missing or cannot be decoded.
        """
        if self.key is not None:
            from odmt_fast.data.readers.lmdb_images import load_image

            return load_image(self.path, self.key)
        from PIL import Image

        try:
            with Image.open(self.path) as image:
                if longest is not None:
                    image.draft("RGB", (longest, longest))
                return image.convert("RGB")
        except FileNotFoundError:
            raise DataError(self.path, "the image file is gone") from None
        # PIL raises whatever its decoders raise: OSError, SyntaxError, struct.error and more.
        except Exception as error:
            raise DataError(self.path, f"the image cannot be decoded ({error})") from error


@dataclass(frozen=True)
class ItemTable:
    """The catalogue; row i describes dense item i + 1.

    Attributes:
        ids: the item names of the source, distinct.
        texts: the text of each item; None where it has none (a missing modality).
        images: the picture of each item; None where it has none (a missing modality).

    Raises:
        ValueError: the three differ in length.
    """

    ids: tuple[str, ...]
    texts: tuple[str | None, ...]
    images: tuple[ImageSource | None, ...]

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.texts) == len(self.images):
            raise ValueError(
                f"ids, texts and images must be equally long, got {len(self.ids)}, "
                f"{len(self.texts)} and {len(self.images)}"
            )

    def __len__(self) -> int:
        """Number of items, padding excluded."""
        return len(self.ids)

    def take(self, rows: NDArray[np.integer]) -> ItemTable:
        """The table of the rows (0-based) `rows`, in that order."""
        order = rows.tolist()
        return ItemTable(
            tuple(self.ids[i] for i in order),
            tuple(self.texts[i] for i in order),
            tuple(self.images[i] for i in order),
        )
