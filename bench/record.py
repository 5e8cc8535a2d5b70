"""The file of a study, which grows by whole runs and goes on where it stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from bench import results


class Record:
    """``bench/results/<name>.json``: a head, and a row for every finished run.

    Args:
        name: of the file.
        head: what all runs depend on, as JSON values.
        fresh: forget what is there.

    Raises:
        ValueError: the file was made with another head.
    """

    def __init__(self, name: str, head: Mapping[str, Any], *, fresh: bool) -> None:
        self._name, self._head, self.rows = name, head, list[dict[str, Any]]()
        if fresh or not (results.FOLDER / f"{name}.json").exists():
            return
        found = results.load(name)
        if {key: found.get(key) for key in head} != head:
            raise ValueError(
                f"bench/results/{name}.json was made with other settings or data; pass --fresh to "
                "replace it"
            )
        self.rows = found["rows"]

    def make(self, model: str, seed: int | None, run: Callable[[], Mapping[str, Any]]) -> None:
        """Runs what is not there yet and writes it down."""
        if any((row["model"], row["seed"]) == (model, seed) for row in self.rows):
            return
        print(f"{model}, seed {seed}", flush=True)
        began = time.perf_counter()
        row = {"model": model, "seed": seed, **run()}
        self.rows.append({"seconds": round(time.perf_counter() - began, 1), **row})
        results.save(self._name, self.rows, **self._head)
