"""The table of a run: a line per variant, times beside ratios and shares of the floor."""

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
    if "skipped" in row:
        return [row["variant"], *[""] * 7, f"skipped: {row['skipped']}"]
    if "error" in row:
        what = "FAILED" if row["ours"] else "did not run"
        note = f"{what}: {row['error'].splitlines()[0][:120]}"
    if "both" not in row:
        return [row["variant"], *[""] * 7, note]
    both, floor = row["both"], row["floor"]
    return [
        row["variant"],
        *(_ms(row[part]["ms"]) if part in row else "" for part in ("forward", "backward")),
        _ms(both["ms"]),
        f"{_ms(both['p20'])}-{_ms(both['p80'])}",
        "" if ours is None else f"{both['ms'] / ours:.2f}",
        f"{floor['both'] / both['ms']:.0%} ({floor['bound']})",
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
        for row in section["rows"]:
            if "tests" in row:
                text += ", " + ", ".join(f"{n} {kind}" for kind, n in row["tests"].items())
                text += "".join(f"; FAILED {test}" for test in row["failures"])
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
