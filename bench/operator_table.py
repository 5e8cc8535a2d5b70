"""The table of the operator benches: a line per variant, times beside ratios and shares of a floor.

GFLOP/s and GB/s count what must be done at least, over the time of all, so that padding and second
reads make them lower, not higher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.table import table

HEAD = (
    "",
    "variant",
    "ms",
    "p20-p80",
    "time / ours",
    "of the floor",
    "GFLOP/s",
    "GB/s",
    "peak MiB",
    "note",
)
MIB = 2**20
ABOUT = (
    "Forward and backward together, median; rivals are handed what they like best, and neither "
    "padding nor the making of masks is counted. The floor is the larger of needed FLOP over the "
    "matmul rate and needed bytes over the copy rate, both of the same process. On a GPU times are "
    "the device's, by CUDA events, with L2 flushed before."
)
NOT_YET = (
    "## The operators\n\n"
    "Not run yet: `pytest bench/test_operators.py --benchmark`, then `make report`."
)


def section(results: Mapping[str, Any]) -> str:
    """The operators on one device."""
    device = results["machine"].get("gpu") or results["machine"]["isa"]
    return "\n".join([f"## The operators, {device}", "", ABOUT, "", shown(results["rows"])])


def shown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of the rows, those of a case one below the other, in the order of the cases."""
    cases: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        cases.setdefault(f"{row['operator']}, {row['dtype']}: {row['case']}", []).append(row)
    body = []
    for case, of_case in cases.items():
        ours = next((row["ms"] for row in of_case if row["ours"] and "ms" in row), None)
        for place, row in enumerate(of_case):
            body.append([case if place == 0 else "", row["variant"], *_cells(row, ours)])
    return table(HEAD, body, left=2)


def _cells(row: Mapping[str, Any], ours: float | None) -> list[str]:
    note = row["note"]
    if "ms" not in row:
        why = row.get("error", row.get("skipped", "")).splitlines()[0][:120]
        what = "did not run" if "skipped" in row or not row["ours"] else "FAILED"
        return [*[""] * (len(HEAD) - 3), "; ".join(filter(None, (f"{what}: {why}", note)))]
    seconds = row["ms"] / 1e3
    return [
        _ms(row["ms"]),
        f"{_ms(row['p20'])}-{_ms(row['p80'])}",
        "" if ours is None else f"{row['ms'] / ours:.2f}",
        f"{row['floor_ms'] / row['ms']:.0%} ({row['bound']})",
        f"{row['flop'] / seconds / 1e9:,.0f}" if row["flop"] else "",
        f"{row['moved_bytes'] / seconds / 1e9:,.1f}" if row["moved_bytes"] else "",
        "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / MIB:,.0f}",
        note,
    ]


def _ms(value: float) -> str:
    return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"
