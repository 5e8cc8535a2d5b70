"""Search for tiles: off unless ODMT_FAST_TUNE=1, and then saved for a person to review.

Training never searches: without the variable the reviewed table of each `configs.py` rules. With it
the first launch of every shape bucket times all candidates, uses the fastest for the rest of the
process, and writes it to ``bench/tuned/<gpu>.json`` under the working directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

ENVIRONMENT_VARIABLE = "ODMT_FAST_TUNE"
Config = TypeVar("Config")

_found: dict[str, Any] = {}


def searching() -> bool:
    """Whether this process looks for better tiles."""
    return os.environ.get(ENVIRONMENT_VARIABLE) == "1"


def _milliseconds(run: Callable[[], object]) -> float:
    from triton.testing import do_bench

    return float(do_bench(run))


def _save(key: str, config: object, milliseconds: float) -> None:
    from odmt_fast.storage import write_atomically  # searching alone writes

    assert is_dataclass(config) and not isinstance(config, type)
    name = torch.cuda.get_device_name().replace(" ", "_").replace("/", "_")
    path = Path("bench/tuned") / f"{name}.json"
    table = json.loads(path.read_text()) if path.exists() else {}
    table[key] = {"milliseconds": milliseconds, **asdict(config)}
    text = json.dumps(table, indent=1, sort_keys=True) + "\n"
    write_atomically(path, lambda part: part.write_text(text))


def tuned(
    key: str,
    reviewed: Config,
    candidates: Callable[[], Sequence[Config]],
    launch: Callable[[Config], object],
) -> Config:
    """The table's config; while searching, the fastest candidate that launches.

    Args:
        key: kernel and shape bucket, one line of the saved file.
        reviewed: the table's choice.
        candidates: what to try beside it.
        launch: runs the kernel with a config; may be called many times.
    """
    if not searching():
        return reviewed
    if key not in _found:
        from triton.errors import TritonError

        times: dict[Config, float] = {}
        for config in {reviewed, *candidates()}:
            try:
                times[config] = _milliseconds(partial(launch, config))
            except (RuntimeError, TritonError) as error:
                # A candidate may ask for more registers or shared memory than there are.
                print(f"{ENVIRONMENT_VARIABLE}: {key}: {config} does not run: {error}")
        best = min(times, key=times.__getitem__)
        _save(key, best, times[best])
        _found[key] = best
    return _found[key]
