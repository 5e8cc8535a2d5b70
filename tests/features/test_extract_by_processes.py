"""Two processes make the store of one, byte for byte, also when one of them was killed (gloo)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from features.shard_catalogue import extract_both


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        str(file.relative_to(folder)): file.read_bytes() for file in files if file.name[0] != "."
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forks, which this system lacks")
def test_two_processes_make_the_bytes_of_one(tmp_path: Path) -> None:
    extract_both(tmp_path / "one")
    expected = contents(tmp_path / "one")
    assert len(expected) == 2 * 6 + 1  # an index and five shards each, and what pca-patches learnt

    def forked(name: str, *words: str) -> None:
        script = Path(__file__).with_name("forked_extract.py")
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path / name), *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr

    forked("two")
    assert contents(tmp_path / "two") == expected
    forked("killed", "DIE")
    assert contents(tmp_path / "killed") != expected
    forked("killed")
    assert contents(tmp_path / "killed") == expected
    assert not list((tmp_path / "killed").rglob(".part-*"))
