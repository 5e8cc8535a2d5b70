"""Small pictures of the items beside a bundle, for pages that show them; lists need none.

``pictures-*.safetensors``: "content", uint8, one JPEG after the other; "offsets", int64 [n + 1];
and the ids of the n items in the header. Those of items that came later stand beside the items.
"""

from __future__ import annotations

import io
from pathlib import Path

from odmt_fast.data.items import ImageSource, ItemTable
from odmt_fast.retrieval.bundle import append_items, companion, read_pictures
from odmt_fast.retrieval.manifest import consistently
from odmt_fast.retrieval.parts import Parts
from odmt_fast.retrieval.pictures import packed
from odmt_fast.storage import save_tensors

SIDE = 128
"""Pixels of the longer side."""


class Thumbnails:
    """JPEG files by item.

    Attributes:
        files: of the items that have a picture.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    @classmethod
    def of(cls, items: ItemTable) -> Thumbnails:
        """Reads and shrinks the pictures of `items`.

        Raises:
            ValueError: no item has a picture, or (DataError) one is missing or cannot be decoded.
        """
        made = cls({}).with_items(items)
        if not len(made):
            raise ValueError("no item of the dataset has a picture; leave --pictures out")
        return made

    @classmethod
    def load(cls, bundle: Path, parts: Parts) -> Thumbnails:
        """Those that lie in the bundle of `parts`; none where none do.

        Raises:
            DamagedFileError: a file is not what was written.
        """
        file = companion(bundle, parts, "pictures", "safetensors")
        if not file.is_file():
            return cls({})
        return cls(consistently(bundle, lambda manifest: read_pictures(bundle, file, manifest)))

    def with_items(self, items: ItemTable) -> Thumbnails:
        """With those of further items.

        Raises:
            ValueError: (DataError) a picture is missing or cannot be decoded.
        """
        pairs = zip(items.ids, items.images, strict=True)
        more = {item: _shrunk(source) for item, source in pairs if source is not None}
        return Thumbnails(self.files | more)

    def save(self, bundle: Path, parts: Parts) -> Path:
        """Writes them into the bundle of `parts`; one with another user encoder removes them.

        Raises:
            StorageError: the file cannot be written.
        """
        file = companion(bundle, parts, "pictures", "safetensors")
        save_tensors(file, packed(self.files), {"ids": list(self.files)})
        return file

    def __contains__(self, item: str) -> bool:
        return item in self.files

    def __len__(self) -> int:
        return len(self.files)

    def jpeg(self, item: str) -> bytes | None:
        """The file of an item; None where it has none."""
        return self.files.get(item)


def append(bundle: Path, parts: Parts, start: int) -> Thumbnails:
    """`append_items` with small pictures of the new items, where the bundle holds those of others.

    Returns:
        Those of the new items; none where it holds none.

    Raises:
        ValueError, FolderInUseError, StorageError: see `Recommender.append`.
    """
    made = Thumbnails({})
    if companion(bundle, parts, "pictures", "safetensors").is_file():
        items = parts.items
        made = made.with_items(
            ItemTable(items.ids[start:], items.texts[start:], items.images[start:])
        )
    append_items(bundle, parts, start, made.files)
    return made


def _shrunk(source: ImageSource) -> bytes:
    picture = source.load(longest=SIDE)
    picture.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=80)
    return out.getvalue()
