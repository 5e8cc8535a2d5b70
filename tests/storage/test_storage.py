"""Files: whole, digested, and of one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from odmt_fast.storage import (
    DamagedFileError,
    Digest,
    FolderInUseError,
    FolderLock,
    StorageError,
    file_digest,
    load_tensors,
    save_tensors,
    write_atomically,
)


def test_a_failing_writer_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "value"
    write_atomically(path, lambda part: part.write_text("old"))

    def fails(part: Path) -> None:
        part.write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_atomically(path, fails)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/x cannot be written: (not a dir|file exists)"):
        write_atomically(tmp_path / "file" / "x", lambda part: part.write_text(""))


def test_a_full_disk_is_one_line_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"

    def full(part: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"x\.safetensors cannot be written: no space left"):
        write_atomically(path, full)


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", {"a": torch.ones(2)}, {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_tensors_and_header_come_back(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    tensors = {
        "scalar": torch.tensor(3, dtype=torch.int64),
        "bf16": torch.randn(2, 3).bfloat16().t(),
        "empty": torch.empty(0, 4),
        "a": shared[:3],
        "b": shared[:3],
    }
    save_tensors(tmp_path / "x", tensors, {"epoch": 3, "name": "é"})
    loaded, header = load_tensors(tmp_path / "x")
    assert header == {"epoch": 3, "name": "é"}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


def test_no_single_flipped_bit_or_lost_byte_passes(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"w": torch.randn(5, 7), "n": torch.arange(4)}, {"epoch": 1})
    whole = path.read_bytes()
    before, header = load_tensors(path)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            tensors, found = load_tensors(path)
        except DamagedFileError as error:
            assert str(path) in str(error)
            continue
        # A bit that changes nothing that is read, such as JSON's white space.
        assert found == header
        assert all(torch.equal(tensors[name], before[name]) for name in before)
    for size in (0, 7, 8, 20, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DamagedFileError, match=r"x\.safetensors"):
            load_tensors(path)


def test_digests_know_where_a_value_ends(tmp_path: Path) -> None:
    assert Digest().add("a").add("bc").hex != Digest().add("ab").add("c").hex
    assert Digest().add(None).hex != Digest().add("").hex
    array = np.arange(6)
    assert Digest().add_array(array).hex != Digest().add_array(array.reshape(2, 3)).hex
    assert Digest().add_array(array[::2]).hex == Digest().add_array(array[::2].copy()).hex
    (tmp_path / "x").write_bytes(b"x" * 10)
    assert len(file_digest(tmp_path / "x")) == 32


def test_the_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom odmt_fast.storage import FolderLock\n"
        "with FolderLock(Path(sys.argv[1]), 'odmt-fast train'):\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with (
            pytest.raises(
                FolderInUseError, match=rf"odmt-fast train \(pid {process.pid} on .* since 2"
            ),
            FolderLock(tmp_path, "test"),
        ):
            raise AssertionError("the folder was entered twice")
    finally:
        process.kill()
        process.wait()
    # A stale lock is free.
    deadline = time.monotonic() + 5
    while True:
        try:
            with FolderLock(tmp_path, "test"):
                break
        except FolderInUseError:
            assert time.monotonic() < deadline


def test_two_threads_do_not_share_a_folder_either(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "one"), pytest.raises(FolderInUseError, match="one"):
        FolderLock(tmp_path, "two").__enter__()
