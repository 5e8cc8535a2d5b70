"""Files that are whole or not there, carry a digest, and belong to one process at a time.

Knows nothing of what is stored; every room writes through it.
"""

from __future__ import annotations

from odmt_fast.storage.atomic import StorageError, remove_unfinished, write_atomically
from odmt_fast.storage.digest import Digest, file_digest
from odmt_fast.storage.lock import FolderInUseError, FolderLock
from odmt_fast.storage.tensors import DamagedFileError, load_tensors, save_tensors

__all__ = [
    "DamagedFileError",
    "Digest",
    "FolderInUseError",
    "FolderLock",
    "StorageError",
    "file_digest",
    "load_tensors",
    "remove_unfinished",
    "save_tensors",
    "write_atomically",
]
