"""The committed results: JSON files in bench/results, written by the benches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.machine import limited_isa, machine
from odmt_fast.storage import write_atomically

FOLDER = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent


def measured(module: str, *arguments: str, **variables: str) -> dict[str, Any]:
    """Runs ``python -m module`` in a process of its own and reads its last line of JSON.

    `variables` join its environment.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | variables
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def timed(name: str) -> str:
    """The file of a bench that times: on limited instructions one of their own, ``step_avx2``."""
    isa = limited_isa()
    return f"{name}_{isa}" if isa else name


def save(name: str, rows: list[dict[str, Any]], **head: Any) -> Path:
    """Replaces ``bench/results/<name>.json``; `head` stands between the machine and the rows."""
    path = FOLDER / f"{name}.json"
    text = json.dumps({"machine": machine(), **head, "rows": rows}, indent=1) + "\n"
    write_atomically(path, lambda part: part.write_text(text))
    return path


def load(name: str) -> dict[str, Any]:
    """The results of a bench.

    Raises:
        FileNotFoundError: the bench was never run.
    """
    return json.loads((FOLDER / f"{name}.json").read_text())
