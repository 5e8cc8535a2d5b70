"""Batches of any size run the kernels that the first step compiled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")


def test_no_kernel_is_compiled_after_the_first_step() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, str(Path(__file__).with_name("jit_keys.py"))]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    first, all_of_them = json.loads(process.stdout)
    assert all_of_them == first
    # With and without dropout, and sums of the gradient; items and users; rows there and back; the
    # two sides of a panel. Everything else is one.
    assert sum(all_of_them.values()) <= 23, all_of_them
    assert len(all_of_them) == 16, all_of_them
