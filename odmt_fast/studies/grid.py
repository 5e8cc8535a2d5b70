"""A study as people write it: named rows of settings, each trained with several seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from odmt_fast.config import Config

_KEYS = ("base", "vary", "rows", "seeds", "against")
# What the study decides itself, or what all its runs have in common.
_NOT_VARIED = {
    "training.output": "every run has a folder of its own in that of the study",
    "training.seed": "list the seeds in 'seeds'",
    "data.path": "a study has one dataset; name it in 'base' or with --data",
    "evaluation.repeat_targets": "runs are compared by the same rules; set it in 'base'",
    "evaluation.compat": "runs are compared by the same rules; set it in 'base'",
}
_UNFIT = re.compile(r"[^\w.,=+-]+")


@dataclass(frozen=True)
class Grid:
    """The runs of a study: every row with every seed.

    Attributes:
        rows: name, fit for a folder -> its configuration, but for seed and output.
        changes: name -> what the row sets beside the base, by dotted name.
        seeds: distinct.
        against: the row that the others are compared against; None compares none.
        base: what all rows start from.
    """

    rows: Mapping[str, Config]
    changes: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    against: str | None
    base: Config

    @classmethod
    def of(cls, values: Any, base: Config) -> Grid:
        """From the contents of a file.

        Args:
            values: ``vary`` (dotted setting -> list of values, in all combinations) or ``rows``
                (name -> dotted settings), ``seeds`` and ``against``; ``base`` is the caller's.
            base: the settings that all rows start from.

        Raises:
            ValueError: something is absent, unknown, or refused; names it.
        """
        if not isinstance(values, dict):
            raise ValueError(f"a study has {', '.join(_KEYS)}; see docs/studies.md")
        if unknown := [key for key in values if key not in _KEYS]:
            raise ValueError(f"{unknown[0]!r} is none of {', '.join(_KEYS)} of a study")
        changes = _changes(values)
        seeds = values.get("seeds", [base.training.seed])
        whole = isinstance(seeds, list) and all(type(seed) is int for seed in seeds)
        if not whole or not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds={seeds!r} must be a list of different whole numbers: [1, 2]")
        against = values.get("against")
        if against is not None and against not in changes:
            raise ValueError(f"against={against!r} is no row; choose from {', '.join(changes)}")
        rows = {}
        for name, settings in changes.items():
            for setting, reason in _NOT_VARIED.items():
                if setting in settings:
                    raise ValueError(f"row {name} sets {setting}: {reason}")
            rows[name] = base.updated(dict(settings))
            if rows[name].evaluation.k != base.evaluation.k:
                raise ValueError(f"row {name} sets evaluation.k; set it in 'base', for all rows")
        return cls(rows, changes, tuple(seeds), against, base)


def _changes(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What every row sets beside the base."""
    vary, rows = values.get("vary"), values.get("rows")
    if (vary is None) == (rows is None):
        raise ValueError("a study has either 'vary' or 'rows'; see docs/studies.md")
    if rows is not None:
        if not isinstance(rows, dict) or not rows:
            raise ValueError("rows must hold named rows, such as 'wide: {model.width: 128}'")
        found = {}
        for name, settings in rows.items():
            if not isinstance(name, str) or _UNFIT.search(name) or not name.strip("."):
                raise ValueError(
                    f"row {name!r} becomes a folder; name it with letters, digits and . , = + - _"
                )
            if not isinstance(settings or {}, dict):
                raise ValueError(f"row {name} must hold settings, such as {{model.width: 128}}")
            found[name] = dict(settings or {})
        return found
    if not isinstance(vary, dict) or not all(isinstance(v, list) and v for v in vary.values()):
        raise ValueError("vary must hold lists of values, such as 'model.width: [64, 128]'")
    found = {}
    for combination in product(*vary.values()):
        settings = dict(zip(vary, combination, strict=True))
        name = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in settings.items())
        name = _UNFIT.sub("_", name)
        if name in found:
            raise ValueError(f"vary gives two rows the name {name!r}; write them as 'rows'")
        found[name] = settings
    return found
