"""A step over 8,192 users fits a given memory where its items pass in micro-batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from odmt_fast.kernels.backend import extension_missing

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
    pytest.mark.skipif(extension_missing("cpu") is not None, reason="the extension is not built"),
]


def mebibytes(micro_items: int) -> float:
    """What a step of 8,192 users with two items each adds to the memory."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    command = "-m bench.micro_items --width 32 --input-steps 1 --items 1200 --steps 1 --only"
    done = subprocess.run(
        [sys.executable, *command.split(), str(micro_items)],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rows"] == 8192
    return found["step_bytes"] / 2**20


def test_the_items_add_the_memory_of_a_micro_batch() -> None:
    # 235: the loss (117 of logits) and the users, which pass together; as it is a step adds 364.
    assert mebibytes(64) < 280
