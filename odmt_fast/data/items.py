"""What is known about items: their names, their texts, and where their pictures are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from odmt_fast.data.pictures import LIMITS, PictureLimits, load_picture, open_regular

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ImageSource:
    """Where one picture is: an image file, or an entry of an LMDB in the official layout.

    Attributes:
        path: the image file, or the LMDB.
        key: the LMDB key; None for an image file.
        limits: what `load` refuses where it is not given others.
    """

    path: Path
    key: str | None = None
    limits: PictureLimits = field(default=LIMITS, compare=False, repr=False)

    def load(self, *, longest: int | None = None, limits: PictureLimits | None = None) -> Image:
        """Decodes the picture as a viewer shows it: upright, on white, 8 bits, its first frame.

        Args:
            longest: a hint: the caller needs no more than this many pixels a side, so that a JPEG
                may be decoded at a fraction of its size (never below the hint).
            limits: what is refused before memory is taken for it; None takes its own.

        Returns:
            A PIL image, mode RGB.

        Raises:
            DataError: it is missing, is past the limits, or cannot be decoded.
        """
        limits = limits or self.limits
        if self.key is not None:
            from odmt_fast.data.readers.lmdb_images import load_image

            return load_image(self.path, self.key, limits)
        return load_picture(self.path, longest=longest, limits=limits)

    def digest(self) -> str:
        """Digest of the picture's bytes as they are stored, 32 hexadecimal digits.

        Raises:
            DataError: it is missing.
        """
        # Here, because the room of files imports torch, which reading data does not need.
        from odmt_fast.storage import Digest, file_digest

        if self.key is not None:
            from odmt_fast.data.readers.lmdb_images import read_entry

            return Digest().add(read_entry(self.path, self.key)).hex
        with open_regular(self.path):
            return file_digest(self.path)

    def stamp(self) -> tuple[int, int, int] | None:
        """Size, time of change and of renaming (ns) of the file; None where it is missing.

        Equal stamps of a file mean equal bytes, unless it was written less than a clock tick ago.
        """
        try:
            file = self.path / "data.mdb" if self.key and self.path.is_dir() else self.path
            found = file.stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns


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

    @property
    def modalities(self) -> tuple[str, ...]:
        """Which of "text" and "image" any item has, in this order."""
        found = {"text": self.texts, "image": self.images}
        return tuple(name for name, values in found.items() if any(v is not None for v in values))

    def with_limits(self, limits: PictureLimits) -> ItemTable:
        """The table with other bounds for its pictures."""
        images = (image and replace(image, limits=limits) for image in self.images)
        return replace(self, images=tuple(images))

    def take(self, rows: NDArray[np.integer]) -> ItemTable:
        """The table of the rows (0-based) `rows`, in that order."""
        order = rows.tolist()
        return ItemTable(
            tuple(self.ids[i] for i in order),
            tuple(self.texts[i] for i in order),
            tuple(self.images[i] for i in order),
        )
