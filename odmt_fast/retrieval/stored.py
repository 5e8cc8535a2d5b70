"""A recommender and the folders it is kept in."""

from __future__ import annotations

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch

from odmt_fast.retrieval.bundle import SEARCHES, read_bundle, write_bundle
from odmt_fast.retrieval.hub import Origin, downloaded, write_card
from odmt_fast.retrieval.parts import NOBODY, KnownUsers, Parts
from odmt_fast.retrieval.thumbnails import append


class Stored:
    """Written to and read from bundles.

    Args:
        parts: of a trained model.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @property
    def known(self) -> KnownUsers:
        """Users with their histories."""
        return self.parts.known

    @classmethod
    def load(
        cls,
        bundle: str | PathLike[str],
        device: torch.device | str = "cpu",
        *,
        search: str = "exact",
    ) -> Self:
        """The recommender that was saved to the folder `bundle`.

        So that the bits are the same, this process multiplies by the library that the saving one
        did (``odmt-fast doctor`` names it), where that runs here.

        Args:
            bundle: made by `save` or ``odmt-fast export``.
            device: where to search.
            search: "faiss" searches lists by the approximate index that was exported with
                ``--faiss``, where no `allow` is given; scores are exact, items may be missing.

        Raises:
            ImportError: `search` is "faiss", and faiss is not installed.
            ValueError: `bundle` is none, has no such index, or is of another version;
                (DamagedFileError) one of its files is missing, damaged, or another bundle's.
        """
        if search not in SEARCHES:
            raise ValueError(f"search is {search!r}; give one of {', '.join(SEARCHES)}")
        return cls(read_bundle(Path(bundle), torch.device(device), search))

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | PathLike[str],
        device: torch.device | str = "cpu",
        *,
        search: str = "exact",
        **options: Any,
    ) -> Self:
        """That of a folder, as `load` reads it, or of a model repository of the Hugging Face Hub.

        Args:
            name_or_path: a folder that `save_pretrained`, `save` or ``odmt-fast export`` made, or
                ``owner/name`` where there is no such folder.
            device, search: see `load`.
            options: of ``huggingface_hub.snapshot_download``: ``revision``, ``cache_dir``,
                ``token``, ``local_files_only``.

        Raises:
            ImportError: a repository is named, and huggingface_hub is not installed.
            ValueError: see `load`.
        """
        folder = Path(name_or_path)
        if not folder.is_dir():
            folder = downloaded(str(name_or_path), options)
        return cls.load(folder, device, search=search)

    def save(
        self,
        bundle: str | PathLike[str],
        *,
        users: bool = False,
        item_encoder: bool = True,
        overwrite: bool = False,
    ) -> Path:
        """Writes a bundle: a folder that `load` needs and nothing else.

        An approximate index that lists are searched by here goes in.

        Args:
            bundle: the folder.
            users: put the histories of the known users in.
            item_encoder: put in what `add_items` needs, where it is there.
            overwrite: replace a bundle that lies there, once the new one is written.

        Raises:
            ValueError: a bundle lies there, or there are no known users.
            StorageError: the folder cannot be written.
        """
        if users:
            self._require_users()
        parts = self._leaving(users, item_encoder)
        return write_bundle(Path(bundle), parts, overwrite=overwrite)

    def save_pretrained(
        self,
        folder: str | PathLike[str],
        *,
        origin: Origin | None = None,
        users: bool = False,
        item_encoder: bool = True,
        overwrite: bool = False,
    ) -> Path:
        """Writes a bundle as `save` does, and a model card, ``README.md``, beside it.

        The folder is what a model repository of the Hugging Face Hub holds. A card that was changed
        by hand, so that it lacks its last line, stays as it is.

        Args:
            folder: see `save`.
            origin: of the run; the card tells it.
            users, item_encoder, overwrite: see `save`.

        Raises:
            ValueError, StorageError: see `save`.
        """
        made = self.save(folder, users=users, item_encoder=item_encoder, overwrite=overwrite)
        write_card(made, self._leaving(users, item_encoder), origin)
        return made

    def append(self, bundle: str | PathLike[str], start: int) -> None:
        """Puts the items from row `start` on, which `add_items` brought, into a bundle on the disk.

        It is durable on return, and takes what those items take, however large the catalogue is.
        Where the bundle holds small pictures, those of the new items join them.

        Args:
            bundle: holds the first `start` items, such as the folder this one was loaded from.
            start: ``len(items)`` before `add_items`.

        Raises:
            ValueError: it holds another number of items, or is damaged; a picture cannot be read.
            FolderInUseError: another process writes it.
            StorageError: it cannot be written. In all cases it has not changed.
        """
        append(Path(bundle), self.parts, start)

    def _leaving(self, users: bool, item_encoder: bool) -> Parts:
        return replace(
            self.parts,
            known=self.known if users else NOBODY,
            item_side=self.parts.item_side if item_encoder else None,
        )

    def _require_users(self) -> None:
        if not len(self.known.names):
            raise ValueError(
                "no user is known here; export the run with --users (users=True), or give histories"
            )
