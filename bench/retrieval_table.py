"""The searches' table of docs/performance.md."""

from __future__ import annotations

from statistics import median
from typing import Any

from bench.retrieval import FLOOR
from bench.table import table


def section(results: dict[str, Any]) -> str:
    """Users per second of every way, and what part of the product alone's rate that is."""
    rows = results["rows"]
    floors = {r["case"]: median(r["seconds"]) for r in rows if r["way"] == FLOOR}
    body = []
    for row in rows:
        seconds, floor = median(row["seconds"]), floors.get(row["case"])
        body.append(
            [
                row["case"],
                row["way"],
                f"{1e3 * seconds:,.0f}",
                f"{median(row['processor_seconds']):.2f}",
                f"{row['users'] / seconds:,.0f}",
                f"{floor / seconds:.0%}" if floor else "",
            ]
        )
    users = max(row["users"] for row in rows)
    head = ["items", "way", "ms", "processor s", "users/s", "of the floor"]
    return "\n".join(
        [
            "## Ranking and search",
            "",
            f"Whole catalogues in fp32, {users:,} users at once, their histories left out (not by "
            "torch and FAISS). The floor is the product of all users with all items by torch's "
            "matmul, which stores every score; the engine's own product stores none, and may "
            "be faster. Made by `python -m bench.retrieval`.",
            "",
            table(head, body, left=2),
        ]
    )
