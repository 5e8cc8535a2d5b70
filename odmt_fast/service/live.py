"""The recommender that answers now: read from a bundle, grown in it, exchanged for a newer one."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import torch

from odmt_fast.data.items import ItemTable
from odmt_fast.retrieval import Recommender
from odmt_fast.retrieval.manifest import MANIFEST
from odmt_fast.retrieval.thumbnails import Thumbnails, append
from odmt_fast.storage import file_digest


class OtherBundleError(RuntimeError):
    """The folder holds another bundle than the one that answers."""


class Live:
    """`recommender` is never changed, only replaced: who has taken it keeps a whole one.

    Args:
        bundle: folder of a bundle.
        device, search: see `Recommender.load`.

    Raises:
        ImportError, ValueError: see `Recommender.load`.
    """

    def __init__(
        self, bundle: Path, device: torch.device | str = "cpu", *, search: str = "exact"
    ) -> None:
        self.bundle, self._device, self.search = bundle, device, search
        self._changing = threading.Lock()
        self._load()

    def _load(self) -> None:
        # Before the bundle is read: if it is exchanged meanwhile, the next `add` notices.
        manifest = self._digest()
        recommender = Recommender.load(self.bundle, self._device, search=self.search)
        self.thumbnails = Thumbnails.load(self.bundle, recommender.parts)
        self.recommender = recommender
        self._manifest = manifest

    def _digest(self) -> str | None:
        file = self.bundle / MANIFEST
        return file_digest(file) if file.is_file() else None

    def reload(self) -> None:
        """Reads the bundle again; the old one answers until the new one is whole.

        Raises:
            ValueError: the new one is damaged or missing; the old one stays.
        """
        with self._changing:
            self._load()

    def add(self, items: ItemTable) -> None:
        """Encodes new items and writes them to the bundle, durably, before anybody sees them.

        Raises:
            ValueError: see `Recommender.add_items`.
            OtherBundleError: the bundle was exchanged and not reloaded; it is not overwritten.
            FolderInUseError: another process writes the bundle.
            StorageError: it cannot be written. In all cases nothing has changed.
        """
        with self._changing:
            if self._digest() != self._manifest:
                raise OtherBundleError(
                    "the bundle on the disk is not the one that answers; POST /reload, then add "
                    "the items"
                )
            parts = self.recommender.parts.with_items(items)
            pictures = append(self.bundle, parts, len(self.recommender.items))
            self._manifest = self._digest()
            # The pictures themselves lie in a request's folder and go with it.
            table = replace(parts.items, images=(None,) * len(parts.items))
            self.thumbnails = Thumbnails(self.thumbnails.files | pictures.files)
            self.recommender = self.recommender.followed_by(replace(parts, items=table))
