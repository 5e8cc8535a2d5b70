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
import pickletools
import struct
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from odmt_fast.data.errors import DataError
from odmt_fast.data.pictures import LIMITS, PictureLimits, as_shown, open_regular

if TYPE_CHECKING:
    from PIL.Image import Image


class StoredImage:
    """Stand-in for the official ``LMDB_Image``: holds what the pickle sets, does nothing."""

    channels: int
    size: tuple[int, int]
    image: bytes
    id: str


# What a pickled LMDB_Image is made of, in protocols 2 to 5.
_OPCODES = [
    "PROTO",
    "FRAME",
    "STOP",
    "MARK",
    "GLOBAL",
    "STACK_GLOBAL",
    "EMPTY_TUPLE",
    "TUPLE",
    "TUPLE1",
    "TUPLE2",
    "TUPLE3",
    "NEWOBJ",
    "BUILD",
    "EMPTY_DICT",
    "DICT",
    "SETITEM",
    "SETITEMS",
    "NONE",
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "SHORT_BINSTRING",
    "BINSTRING",
    "SHORT_BINBYTES",
    "BINBYTES",
    "BINBYTES8",
    "MEMOIZE",
    "BINPUT",
    "LONG_BINPUT",
    "BINGET",
    "LONG_BINGET",
]


# An LMDB_Image takes some thirty.
_MOST_OPCODES = 1000


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "LMDB_Image":
            # A class of its own: a pickle can set attributes of the class, for later entries too.
            return type("LMDB_Image", (StoredImage,), {})
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which is refused")


def list_keys(path: Path) -> set[str]:
    """Keys of the LMDB at `path`, the two bookkeeping entries left out; values are not read.

    Raises:
        DataError: it is not an LMDB.
    """
    with _environment(path).begin() as transaction:
        keys = transaction.cursor().iternext(keys=True, values=False)
        return {key.decode("utf-8", "replace") for key in keys} - {"__keys__", "__len__"}


def read_entry(path: Path, key: str) -> bytes:
    """The stored bytes of the entry `key`.

    Raises:
        DataError: the entry is absent, or the LMDB cannot be read.
    """
    import lmdb

    try:
        with _environment(path).begin() as transaction:
            value: bytes | None = transaction.get(key.encode("utf-8", "surrogateescape"))
    except lmdb.BadValsizeError:  # longer than any key can be
        value = None
    except lmdb.Error as error:
        raise DataError(path, f"the LMDB is damaged: {error}; copy it again") from None
    if value is None:
        raise DataError(path, f"the LMDB has no entry {key[:80]!r}")
    return value


def load_image(path: Path, key: str, limits: PictureLimits = LIMITS) -> Image:
    """Decodes the entry `key` of the LMDB at `path` into a PIL image, mode RGB.

    Raises:
        DataError: the entry is absent, holds anything but an ``LMDB_Image``, is past the limits, or
            its bytes do not match its size.
    """
    from PIL import Image

    value = read_entry(path, key)
    if len(value) > limits.max_bytes:
        raise DataError(
            path,
            f"entry {key!r} has {len(value):,} bytes, more than the {limits.max_bytes:,} that are "
            "read",
        )
    try:
        _check_opcodes(value)
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
                limits.check_size(path, width, height)
                return as_shown(Image.frombytes(mode, (width, height), pixels))
    raise DataError(
        path,
        f"entry {key!r} is not an LMDB_Image of uint8 pixels: it needs size (height, width), "
        "channels 1, 3 or 4, and image of height x width x channels bytes",
    )


def _check_opcodes(value: bytes) -> None:
    """Walks a pickle without running it, so that no length or memo index in it is believed."""
    for number, (opcode, argument, place) in enumerate(pickletools.genops(value)):
        if number == _MOST_OPCODES:
            raise pickle.UnpicklingError(f"it holds more than {_MOST_OPCODES} opcodes")
        if opcode.name == "GLOBAL" and not str(argument).endswith(" LMDB_Image"):
            asked = str(argument).replace(" ", ".")
            raise pickle.UnpicklingError(f"the pickle asks for {asked}, which is refused")
        # REDUCE runs what `find_class` gave, and that names what it refuses.
        if opcode.name not in _OPCODES and opcode.name != "REDUCE":
            raise pickle.UnpicklingError(
                f"it holds {opcode.name} at byte {place}, which is refused"
            )
        if opcode.name == "LONG_BINPUT" and int(str(argument)) > len(value):
            raise pickle.UnpicklingError(f"it holds memo index {argument}, which is refused")


def _environment(path: Path) -> Any:
    # An LMDB environment must not cross a fork, and must be opened once per process.
    return _open(os.path.realpath(path), os.getpid())


@lru_cache(maxsize=8)
def _open(path: str, process: int) -> Any:
    import lmdb

    _check_whole(Path(path, "data.mdb") if os.path.isdir(path) else Path(path))
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


# Where LMDB's meta page keeps things on 64-bit machines: struct MDB_meta of lmdb/mdb.c.
_META = struct.Struct("<16xII16xI44x48xQQ")
_MAGIC = 0xBEEFC0DE


def _check_whole(file: Path) -> None:
    """Refuses a file shorter than its meta pages say: mapped, it would kill the process (SIGBUS).

    Raises:
        DataError: it is truncated, or no LMDB.
    """
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        first = opened.read(_META.size)
        page = _page_size(first)
        if page is None:
            raise DataError(file, "this is not an LMDB: it has no meta page")
        opened.seek(page)
        metas = [first, opened.read(_META.size)]
    needed = 2 * page
    newest = max((m for m in metas if _page_size(m) == page), key=lambda m: _META.unpack(m)[4])
    needed = max(needed, (_META.unpack(newest)[3] + 1) * page)
    if size < needed:
        raise DataError(
            file, f"the LMDB is truncated: {size:,} bytes of at least {needed:,}; copy it again"
        )


def _page_size(meta: bytes) -> int | None:
    if len(meta) < _META.size:
        return None
    magic, _, page, _, _ = _META.unpack(meta)
    plausible = page >= 256 and page & (page - 1) == 0
    return page if magic == _MAGIC and plausible else None
