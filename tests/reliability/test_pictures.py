"""Hostile pictures: each is refused in one line, in under 2 s and 500 MB, and starts nothing."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from PIL import Image

# Reads every picture of argv (path, key or ""); prints [message, seconds, peak MB] of each.
_PROBE = """
import json, sys, time
from pathlib import Path
from odmt_fast.data import DataError, ImageSource
for path, key in zip(sys.argv[1::2], sys.argv[2::2]):
    began = time.perf_counter()
    try:
        ImageSource(Path(path), key or None).load()
        message = "read"
    except DataError as error:
        message = str(error)
    # Not ru_maxrss, which a process begins with at its parent's.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    peak = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps([message, time.perf_counter() - began, peak]))
"""


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + checksum


def png(path: Path, side: int) -> None:
    """An RGB picture of zeros: `side` x `side` pixels in a few kilobytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = packer.compress(bytes(3 * side + 1)) + packer.flush()
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def text_bomb(path: Path) -> None:
    packed = b"Comment\0\0" + zlib.compress(bytes(200 << 20), 9)
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"zTXt", packed))


def eps(path: Path) -> None:
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def sparse(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0")
    os.truncate(path, 1 << 40)


def gif(path: Path) -> None:
    header = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\0\0\0"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\2\2\x4c\1\0;"
    path.write_bytes(header + frame)


BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pixels": (lambda path: png(path, 13_300), "13,300 x 13,300 pixels, more than the 128,000,000"),
    "more pixels": (lambda path: png(path, 300_000), "more than the 128,000,000"),
    "gif": (gif, "65,535 x 65,535 pixels"),
    "text": (text_bomb, "cannot be decoded"),
    "eps": (eps, "is not a picture that is read"),
    "fifo": (lambda path: os.mkfifo(path), "not a regular file"),
    "folder": (lambda path: path.mkdir(), "not a regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "terabyte": (sparse, "1,099,511,627,776 bytes, more than"),
    "empty": (lambda path: path.touch(), "is empty"),
    "html": (lambda path: path.write_text("<html>404</html>") and None, "is not a picture"),
    "loop": (lambda path: path.symlink_to(path.name), "cannot be opened"),
}


def probe(*pictures: tuple[Path, str]) -> list[tuple[str, float, float]]:
    words = [str(word) for picture in pictures for word in picture]
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *words], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float, float]]:
    """What became of every hostile file, read one after the other by one process."""
    pictures: dict[str, tuple[Path, str]] = {}
    for name, (make, _) in BOMBS.items():
        path = tmp_path_factory.mktemp("bomb") / "i0.jpg"
        make(path)
        pictures[name] = (path, "")
    for name, value in PICKLES.items():
        pictures[name] = (stored(tmp_path_factory.mktemp("pickle") / "image.lmdb", value), "x")
    for kept in CUTS:
        path = stored(tmp_path_factory.mktemp("cut") / "image.lmdb", pickle.dumps(bytes(100_000)))
        os.truncate(path, kept if kept >= 0 else path.stat().st_size + kept)
        pictures[f"cut to {kept}"] = (path, "x")
    long_key = stored(tmp_path_factory.mktemp("key") / "image.lmdb", b"")
    pictures["key"] = (long_key, "k" * 5000)
    outcomes = probe(*pictures.values())
    for (path, _), (message, *_) in zip(pictures.values(), outcomes, strict=True):
        assert str(path) in message and "\n" not in message
    return dict(zip(pictures, outcomes, strict=True))


@pytest.mark.parametrize("name", BOMBS)
def test_a_hostile_file_is_refused_at_once(refusals: Any, name: str) -> None:
    message, seconds, megabytes = refusals[name]
    assert BOMBS[name][1] in message
    assert seconds < 2 and megabytes < 500


def test_no_program_is_started_for_an_eps(tmp_path: Path) -> None:
    path = tmp_path / "i0.jpg"
    eps(path)
    code = "import sys; sys.addaudithook(lambda e, a: e == 'subprocess.Popen' and sys.exit(9))"
    done = subprocess.run([sys.executable, "-c", code + _PROBE, str(path), ""], capture_output=True)
    assert done.returncode == 0


def stored(path: Path, value: bytes) -> Path:
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 24, lock=False)
    with environment, environment.begin(write=True) as transaction:
        transaction.put(b"x", value)
    return path


PICKLES = {
    "memo index": b"\x80\x02}r\xff\xff\xff\x7f.",
    "length": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 45) + b"x.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.",
    "long": b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"x.",
    "extension": b"\x80\x02\x82\x01.",
    "millions of opcodes": b"\x80\x02" + b"}" * 5_000_000 + b".",
    "nested lists": b"\x80\x02" + b"]" * 100_000 + b".",
}


CUTS = (0, 10, 100, 4096, 5000, 8192, 12288, -4096)


@pytest.mark.parametrize("name", PICKLES)
def test_a_hostile_pickle_is_refused_at_once(refusals: Any, name: str) -> None:
    message, seconds, megabytes = refusals[name]
    assert "entry 'x' cannot be read" in message
    assert seconds < 2 and megabytes < 500


@pytest.mark.parametrize("kept", CUTS)
def test_a_truncated_lmdb_is_an_error_not_a_signal(refusals: Any, kept: int) -> None:
    message, *_ = refusals[f"cut to {kept}"]
    assert "truncated" in message or "not an LMDB" in message


def test_a_key_that_no_lmdb_can_hold_is_an_absent_entry(refusals: Any) -> None:
    assert "no entry 'kkk" in refusals["key"][0]


def test_an_entry_cannot_change_the_entries_after_it(tmp_path: Path) -> None:
    from odmt_fast.data import DataError, ImageSource

    state = b"}(X\x05\x00\x00\x00imageC\x03abcX\x08\x00\x00\x00channelsK\x03"
    state += b"X\x04\x00\x00\x00sizeK\x01K\x01\x86u"
    poison = b"\x80\x04c__main__\nLMDB_Image\n" + state + b"b."
    path = stored(tmp_path / "image.lmdb", poison)
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 24, lock=False)
    with environment, environment.begin(write=True) as transaction:
        transaction.put(b"y", b"\x80\x04c__main__\nLMDB_Image\n)\x81.")
    for key in "xy":
        with pytest.raises(DataError, match=f"entry '{key}'"):
            ImageSource(path, key).load()


def test_a_hundred_megapixels_are_read_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (10_000, 10_000)).save(path)
    [[message, *_]] = probe((path, ""))
    assert message == "read"
