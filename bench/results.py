"""The committed results: JSON files in bench/results, written by the benches."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from bench.machine import limited_isa, machine
from odmt_fast.config import Config
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
    """The file of a bench that times: of a GPU or of limited instructions one of their own,
    ``operators_nvidia_h100``, ``step_avx2``."""
    if gpu := machine().get("gpu"):
        return f"{name}_{re.sub(r'[^a-z0-9]+', '_', str(gpu).lower()).strip('_')}"
    isa = limited_isa()
    return f"{name}_{isa}" if isa else name


def save(name: str, rows: list[dict[str, Any]], *, folder: Path | None = None, **head: Any) -> Path:
    """Replaces ``<name>.json`` in `folder`, by default bench/results.

    `head` stands between the machine and the rows.
    """
    path = (folder or FOLDER) / f"{name}.json"
    text = json.dumps({"machine": machine(), **head, "rows": rows}, indent=1) + "\n"
    write_atomically(path, lambda part: part.write_text(text))
    return path


def load(name: str) -> dict[str, Any]:
    """The results of a bench.

    Raises:
        FileNotFoundError: the bench was never run.
    """
    return json.loads((FOLDER / f"{name}.json").read_text())


class Record:
    """The file of a study, which grows by whole runs; begun anew, a study goes on with the others.

    Several processes may add to one file.

    Args:
        name: of the file in ``bench/results``.
        head: what a run depends on; the rows of a file with another head cannot be gone on with. A
            setting of "config" that a file does not know came later, and its default was used.
        keys: the entries of a row that say which run it is.
        fresh: forget what is there, when the first run is added.

    Raises:
        ValueError: the file was made with another head.
    """

    def __init__(
        self, name: str, head: dict[str, Any], keys: Sequence[str], *, fresh: bool = False
    ) -> None:
        self._name, self._head, self._keys, self._fresh = name, head, keys, fresh
        self.rows()

    def rows(self) -> list[dict[str, Any]]:
        """The runs that are there."""
        if self._fresh or not (FOLDER / f"{self._name}.json").exists():
            return []
        found = load(self._name)
        if {key: _known(found, self._head, key) for key in self._head} != self._head:
            raise ValueError(
                f"bench/results/{self._name}.json was made with other settings or data; pass "
                "--fresh to replace it"
            )
        return found["rows"]

    def has(self, **run: Any) -> bool:
        """Whether the run with these keys is there."""
        return any({key: row[key] for key in self._keys} == run for row in self.rows())

    def add(self, row: dict[str, Any]) -> None:
        """Writes a run, all of it or nothing; not again where another process has been first."""
        path = FOLDER / f"{self._name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not self.has(**{key: row[key] for key in self._keys}):
                save(self._name, [*self.rows(), row], **self._head)
                self._fresh = False


def _known(found: dict[str, Any], head: dict[str, Any], key: str) -> Any:
    """What a file says of an entry of `head`, of "config" with the defaults of what it lacks."""
    if key != "config" or key not in found:
        return found.get(key)
    defaults = Config().model_dump(mode="json")
    return {
        section: {name: found[key][section].get(name, defaults[section][name]) for name in settings}
        for section, settings in head[key].items()
    }
