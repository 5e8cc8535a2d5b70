"""Small pictures of the items beside a bundle, for pages that show them; lists need none.

``pictures-*.safetensors``: "content", uint8, one JPEG after the other; "offsets", int64 [n + 1];
and the ids of the n items in the header.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from odmt_fast.data.items import ImageSource, ItemTable
from odmt_fast.retrieval.bundle import companion
from odmt_fast.retrieval.parts import Parts
from odmt_fast.storage import load_tensors, save_tensors

SIDE = 128
"""Pixels of the longer side."""


class Thumbnails:
    """JPEG files by item.

    Args:
        files: of the items that have a picture.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    @classmethod
    def of(cls, items: ItemTable) -> Thumbnails:
        """Reads and shrinks the pictures of `items`.

        Raises:
            ValueError: no item has a picture, or (DataError) one is missing or cannot be decoded.
        """
        pairs = zip(items.ids, items.images, strict=True)
        files = {item: _shrunk(source) for item, source in pairs if source is not None}
        if not files:
            raise ValueError("no item of the dataset has a picture; leave --pictures out")
        return cls(files)

    @classmethod
    def load(cls, bundle: Path, parts: Parts) -> Thumbnails:
        """Those that lie in the bundle of `parts`; none where none do.

        Raises:
            DamagedFileError: the file is not what was written.
        """
        file = companion(bundle, parts, "pictures", "safetensors")
        if not file.is_file():
            return cls({})
        tensors, header = load_tensors(file)
        content, offsets = tensors["content"].numpy().tobytes(), tensors["offsets"].tolist()
        bounds = zip(offsets, offsets[1:], strict=False)
        return cls(
            {
                item: content[start:end]
                for item, (start, end) in zip(header["ids"], bounds, strict=True)
            }
        )

    def save(self, bundle: Path, parts: Parts) -> Path:
        """Writes them into the bundle of `parts`; one with another user encoder removes them.

        Raises:
            StorageError: the file cannot be written.
        """
        file = companion(bundle, parts, "pictures", "safetensors")
        sizes = torch.tensor([0, *map(len, self._files.values())])
        content = torch.frombuffer(bytearray(b"".join(self._files.values())), dtype=torch.uint8)
        tensors = {"content": content, "offsets": sizes.cumsum(0)}
        save_tensors(file, tensors, {"ids": list(self._files)})
        return file

    def __contains__(self, item: str) -> bool:
        return item in self._files

    def __len__(self) -> int:
        return len(self._files)

    def jpeg(self, item: str) -> bytes | None:
        """The file of an item; None where it has none."""
        return self._files.get(item)


def _shrunk(source: ImageSource) -> bytes:
    picture = source.load(longest=SIDE)
    picture.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80)
    return out.getvalue()
