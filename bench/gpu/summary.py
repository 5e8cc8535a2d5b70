"""The table of a run: a line per variant, times beside ratios and shares of the floor.

The share of the floor is given for forward, backward and both; GB/s counts the bytes that both must
move at least, over the time of both, so that padding and second reads make it lower, not higher.
"""

from __future__ import annotations

from typing import Any

HEAD = (
    "",
    "variant",
    "forward ms",
    "backward ms",
    "both ms",
    "p20-p80",
    "time / ours",
    "of the floor",
    "GB/s",
    "peak MiB",
    "note",
)
MIB = 2**20


def lines(results: dict[str, Any]) -> list[list[str]]:
    """Cells under `HEAD`, sections and cases in their order."""
    body = []
    for section in results["sections"].values():
        rows = [row for row in section["rows"] if "variant" in row]
        last = None
        for row in rows:
            case = f"{row['operator']}: {row['case']}"
            body.append([case if case != last else "", *_cells(row, _ours(rows, row))])
            last = case
    return body


def _ours(rows: list[dict[str, Any]], row: dict[str, Any]) -> float | None:
    """Milliseconds of the project's first variant in the case of `row`."""
    for other in rows:
        same = (other["operator"], other["case"]) == (row["operator"], row["case"])
        if same and other.get("ours") and "both" in other:
            return float(other["both"]["ms"])
    return None


def _cells(row: dict[str, Any], ours: float | None) -> list[str]:
    note = row.get("note", "")
    empty = [""] * (len(HEAD) - 3)
    if "skipped" in row:
        return [row["variant"], *empty, f"skipped: {row['skipped']}"]
    if "error" in row:
        what = "FAILED" if row["ours"] else "did not run"
        note = f"{what}: {row['error'].splitlines()[0][:120]}"
    if "both" not in row:
        return [row["variant"], *empty, note]
    both, floor = row["both"], row["floor"]
    parts = [part for part in ("forward", "backward", "both") if part in row]
    shares = " ".join(f"{floor[part] / row[part]['ms']:.0%}" for part in parts)
    return [
        row["variant"],
        *(_ms(row[part]["ms"]) if part in row else "" for part in ("forward", "backward")),
        _ms(both["ms"]),
        f"{_ms(both['p20'])}-{_ms(both['p80'])}",
        "" if ours is None else f"{both['ms'] / ours:.2f}",
        f"{shares} ({floor['bound']})",
        f"{row['moved_bytes'] / both['ms'] / 1e6:,.0f}" if "moved_bytes" in row else "",
        f"{row['peak_bytes'] / MIB:,.0f}",
        note,
    ]


def _ms(value: float) -> str:
    return f"{value:,.3f}" if value < 10 else f"{value:,.1f}"


def states(results: dict[str, Any]) -> list[str]:
    """One sentence per section."""
    said = []
    for name, section in results["sections"].items():
        text = f"{name}: {section['state']} in {section['seconds']:.0f} s"
        tests = [row for row in section["rows"] if "tests" in row]
        if tests:
            kinds = ("passed", "failed", "skipped")
            counts = [(sum(row["tests"].get(k, 0) for row in tests), k) for k in kinds]
            text += ", " + ", ".join(f"{n} {kind}" for n, kind in counts)
            text += "".join(f"; FAILED {test}" for row in tests for test in row["failures"])
        rates = section["rates"]
        if rates:
            text += (
                f"; copy {rates['copy_bytes'] / 1e12:.2f} TB/s, "
                f"bf16 matmul {rates['matmul_flop'] / 1e12:.0f} TFLOP/s"
            )
        if section["error"]:
            text += f"; {section['error'].splitlines()[0]}"
        said.append(text)
    return said
