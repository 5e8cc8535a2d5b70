from __future__ import annotations

import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from odmt_fast.data import DataError, ImageSource, read


class LMDB_Image:
    """As the official code pickles it."""

    def __init__(self, image: np.ndarray, id: str) -> None:
        self.channels = image.shape[2]
        self.size = image.shape[:2]
        self.image = image.tobytes()
        self.id = id


@pytest.fixture(params=["lmdb_build", "__main__"])
def official_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """The class, as pickled by a script and by an imported module."""
    module = sys.modules.get(request.param) or types.ModuleType(request.param)
    monkeypatch.setitem(sys.modules, request.param, module)
    monkeypatch.setattr(module, "LMDB_Image", LMDB_Image, raising=False)
    monkeypatch.setattr(LMDB_Image, "__module__", request.param)
    return LMDB_Image


def write(path: Path, entries: dict[str, Any]) -> Path:
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 22, lock=False)
    with environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            data = value if isinstance(value, bytes) else pickle.dumps(value)
            transaction.put(key.encode(), data)
        transaction.put(b"__keys__", pickle.dumps([k.encode() for k in entries]))
        transaction.put(b"__len__", pickle.dumps(len(entries)))
    return path


def pixels(height: int = 3, width: int = 5) -> np.ndarray:
    return np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)


def test_entries_of_the_official_code_are_read(tmp_path: Path, official_class: type) -> None:
    path = write(tmp_path / "image.lmdb", {"7": official_class(pixels(), "7")})
    image = ImageSource(path, "7").load()
    assert (image.mode, image.size) == ("RGB", (5, 3))
    assert np.array_equal(np.asarray(image), pixels())


def test_folder_with_an_lmdb(official: Path, official_class: type) -> None:
    for name in (official / "images").iterdir():
        name.unlink()
    (official / "images").rmdir()
    entry = official_class(pixels(), "x")
    write(official / "Arts_image.lmdb", {"bowl": entry, "vase": entry, "stray": entry})
    data = read(official)
    assert [image and image.key for image in data.items.images] == ["bowl", None, "vase"]
    assert (data.report.images_unused, data.report.items_without_image) == (1, 1)


def test_numbers_in_names_are_keys_too(tmp_path: Path, official_class: type) -> None:
    from odmt_fast.data.readers.image_files import find_images

    path = write(tmp_path / "image.lmdb", {"42": official_class(pixels(), "42")})
    images, unused = find_images(path, ["v00042", "v7", "vase"])
    assert images == (ImageSource(path, "42"), None, None)
    assert unused == 0


def wrong_size(entry: Any) -> None:
    entry.size = (4, 5)


def array_pixels(entry: Any) -> None:
    entry.image = pixels()


def no_size(entry: Any) -> None:
    del entry.size


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system, which is refused"),
        ({"image": b""}, "is not an LMDB_Image"),
        (b"nonsense", "cannot be read"),
        (wrong_size, "height x width x channels bytes"),
        (array_pixels, "which is refused"),
        (no_size, "is not an LMDB_Image"),
    ],
)
def test_anything_else_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    official_class: type,
    value: Any,
    words: str,
) -> None:
    if callable(value):
        value(entry := official_class(pixels(), "x"))
        value = entry
    ran: list[str] = []
    monkeypatch.setattr(os, "system", lambda command: ran.append(command))
    path = write(tmp_path / "image.lmdb", {"x": value})
    with pytest.raises(DataError) as caught:
        ImageSource(path, "x").load()
    assert words in caught.value.reason and "'x'" in caught.value.reason
    assert caught.value.file == path and not ran


def test_absent_entry_and_file_that_is_no_lmdb(tmp_path: Path, official_class: type) -> None:
    path = write(tmp_path / "image.lmdb", {"7": official_class(pixels(), "7")})
    with pytest.raises(DataError, match="no entry '8'"):
        ImageSource(path, "8").load()
    text = tmp_path / "text.lmdb"
    text.write_text("not a database" * 1000)
    with pytest.raises(DataError, match="this is not an LMDB"):
        ImageSource(text, "8").load()
