"""Runs killed by SIGKILL, at every file operation and at random times, end bit for bit the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="sessions are forks, which this system lacks")
@pytest.mark.parametrize(("how", "kills"), [("moments", 25), ("random", 3)])
def test_killed_runs_end_bit_for_bit_the_same(tmp_path: Path, how: str, kills: int) -> None:
    script = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), how],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= kills
