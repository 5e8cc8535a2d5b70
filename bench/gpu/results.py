"""The results of a run: one JSON per GPU, complete after every section.

    {"schema": 1, "machine": {...}, "sections": {name: {
        "state": "done" | "failed" | "timeout" | "skipped", "seconds": s, "limit": s,
        "error": text or null, "rates": {"copy_bytes", "matmul_flop"} or null, "rows": [...]}}}

A row of an operator has ``operator, case, variant`` and either ``skipped`` (the reason), or
``error``, or times ``forward, backward, both`` ({"ms", "p20", "p80"}) with ``floor`` ({"forward",
"backward", "both", "bound"}, ms), ``moved_bytes`` (what both directions must move at least),
``peak_bytes``, ``distance`` from the reference and ``rounds``; also ``ours`` and ``note``. A row of
the training step has ``both`` only, with ``users_per_s`` and ``loss``. A row of the tests has
``tests`` ({"passed", "failed", "skipped"}), ``failures``, their names, and ``file``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from odmt_fast.storage import write_atomically

SCHEMA = 1
STATES = ("done", "failed", "timeout", "skipped")
DIRECTIONS = ("forward", "backward", "both")


def save(path: Path, results: dict[str, Any]) -> None:
    """Replaces the file at once: a reader sees the old or the new one, never a part."""
    check(results)
    text = json.dumps(results, indent=1) + "\n"
    write_atomically(path, lambda part: part.write_text(text))


def load(path: Path) -> dict[str, Any]:
    """Reads and checks a file.

    Raises:
        ValueError: it is not what `save` writes.
    """
    results = json.loads(path.read_text())
    check(results)
    return results


def check(results: dict[str, Any]) -> None:
    """Raises ValueError naming the first thing that does not fit the schema."""
    if results.get("schema") != SCHEMA:
        raise ValueError(f"results: schema must be {SCHEMA}, got {results.get('schema')!r}")
    for name, section in results["sections"].items():
        if section["state"] not in STATES:
            raise ValueError(f"section {name}: state {section['state']!r} is none of {STATES}")
        for row in section["rows"]:
            _check_row(name, row)


def _check_row(section: str, row: dict[str, Any]) -> None:
    if "tests" in row:
        return
    absent = {"operator", "case", "variant"} - row.keys()
    if absent:
        raise ValueError(f"section {section}: a row lacks {', '.join(sorted(absent))}: {row}")
    if not {"skipped", "error", "both"} & row.keys():
        raise ValueError(
            f"section {section}: row {row['variant']!r} has neither times nor an error"
        )
    for direction in DIRECTIONS:
        times = row.get(direction)
        if times is not None and not times["p20"] <= times["ms"] <= times["p80"]:
            raise ValueError(f"section {section}: {direction} of {row['variant']!r}: {times}")


def read_rows(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """(rows, rates) of what a section wrote, one JSON a line; a last line cut short is dropped.

    A row that comes again, of the same variant or file, takes the place of the earlier one.
    """
    rows: dict[tuple[str | None, ...], dict[str, Any]] = {}
    rates = None
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if "rates" in entry:
            rates = entry["rates"]
        else:
            key = (entry.get(part) for part in ("operator", "case", "variant", "file"))
            rows[tuple(key)] = entry
    return list(rows.values()), rates
