"""Pictures in the official LMDB: pickled ``LMDB_Image`` objects, read without trusting them.

An entry has the attributes channels, size (height, width), image (uint8 bytes, row-major H x W x C)
and id. A pickle can run anything when it is loaded, so the unpickler here builds that one class, as
a stand-in without behaviour, and refuses every other global.

Source: official data/1_lmdb_build.py::LMDB_Image, utils/dataset.py.
"""

from __future__ import annotations

import io
import os
import pickle
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odmt_fast.data.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


class StoredImage:
    """Stand-in for the official ``LMDB_Image``: holds what the pickle sets, does nothing."""

    channels: int
    size: tuple[int, int]
    image: bytes
    id: str


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "LMDB_Image":
            return StoredImage
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which is refused")


def list_keys(path: Path) -> set[str]:
    """Keys of the LMDB at `path`, the two bookkeeping entries left out; values are not read.

    Raises:
        DataError: it is not an LMDB.
    """
    with _environment(path).begin() as transaction:
        keys = transaction.cursor().iternext(keys=True, values=False)
        return {key.decode("utf-8", "replace") for key in keys} - {"__keys__", "__len__"}


def load_image(path: Path, key: str) -> Image:
    """Decodes the entry `key` of the LMDB at `path` into a PIL image, mode RGB.

    Raises:
        DataError: the entry is absent, holds anything but an ``LMDB_Image``, or its bytes do not
            match its size.
    """
    from PIL import Image

    with _environment(path).begin() as transaction:
        value = transaction.get(key.encode())
    if value is None:
        raise DataError(path, f"the LMDB has no entry {key!r}")
    try:
        entry = _Unpickler(io.BytesIO(value)).load()
    # A damaged pickle raises whatever the opcode it stumbles over raises.
    except Exception as error:
        raise DataError(path, f"entry {key!r} cannot be read: {error}") from error
    fields = vars(entry) if isinstance(entry, StoredImage) else {}
    match (fields.get("size"), fields.get("channels"), fields.get("image")):
        case ((int(height), int(width)), int(channels), bytes(pixels)) if (
            min(height, width) > 0 and len(pixels) == height * width * channels
        ):
            mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels)
            if mode is not None:
                return Image.frombytes(mode, (width, height), pixels).convert("RGB")
    raise DataError(
        path,
        f"entry {key!r} is not an LMDB_Image of uint8 pixels: it needs size (height, width), "
        "channels 1, 3 or 4, and image of height x width x channels bytes",
    )


def _environment(path: Path) -> Any:
    # An LMDB environment must not cross a fork, and must be opened once per process.
    return _open(os.path.realpath(path), os.getpid())


@lru_cache(maxsize=8)
def _open(path: str, process: int) -> Any:
    import lmdb

    try:
        return lmdb.open(
            path,
            subdir=os.path.isdir(path),
            readonly=True,
            lock=False,
            readahead=False,
            create=False,
            max_readers=1024,
        )
    except lmdb.Error as error:
        raise DataError(path, f"this is not an LMDB: {error}") from error
