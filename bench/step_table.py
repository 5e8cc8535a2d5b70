"""The training step in tables: implementations side by side, the engine's stages, the headline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median, quantiles
from typing import Any

from bench.table import table

GIB = 2**30

IMPLEMENTATIONS = {
    "engine": "`odmt_fast.ODMT`",
    "engine_compiled": "`odmt_fast.ODMT`, torch.compile",
    "tuned": "tuned baseline",
    "compiled": "tuned baseline, torch.compile",
    "reference": "reference, freed memory kept",
    "untouched": "reference (the official algorithm) as it is",
}

Rows = Mapping[tuple[str, str], Mapping[str, Any]]
"""(implementation, dtype) -> its row of the results."""


def floor_seconds(row: Mapping[str, Any]) -> float:
    """Needed FLOP over the matmul rate of the same process."""
    return sum(row["needed_flop"].values()) / row["matmul_flops"]


def spread(seconds: Sequence[float]) -> tuple[float, float]:
    """The 20th and the 80th percentile; one step has no spread."""
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    cuts = quantiles(seconds, n=5, method="inclusive")
    return cuts[0], cuts[-1]


def section(results: Mapping[str, Any]) -> str:
    """Implementations side by side, then the engine's stages."""
    rows = results["rows"]
    at: Rows = {(row["implementation"], row["dtype"]): row for row in rows}
    seconds = {key: median(row["seconds"]) for key, row in at.items()}

    def against(name: str, dtype: str, took: float) -> str:
        return f"{seconds[name, dtype] / took:.1f}x" if (name, dtype) in seconds else ""

    body = []
    for (name, dtype), row in at.items():
        took = seconds[name, dtype]
        low, high = spread(row["seconds"])
        body.append(
            [
                IMPLEMENTATIONS[name],
                dtype,
                f"{1e3 * took:,.0f}",
                f"{1e3 * low:,.0f}-{1e3 * high:,.0f}",
                f"{row['users'] / took:,.1f}",
                against("untouched", dtype, took),
                against("reference", dtype, took),
                against("reference", "fp32", took),
                f"{floor_seconds(row) / took:.0%}",
                f"{row['step_bytes'] / GIB:.2f}",
            ]
        )
    head = ["", "dtype", "step ms", "p20-p80", "users/s", "vs reference as it is"]
    head += ["vs memory kept", "vs memory kept, fp32", "of the floor", "step GiB"]
    first, isa = rows[0], results["machine"]["isa"]
    limits = results["machine"].get("limits")
    text = [
        f"## The training step, {isa}" + (" by emulation" if limits else ""),
        "",
        *([_about_limits(limits), ""] if limits else []),
        f"Official settings (width 768, 2 layers, 2 heads, 12 steps, up to 30 text and 50 image "
        f"tokens, dropout 0.1), batch {first['users']}: {first['items']} distinct items in "
        f"{first['slots']} slots, {first['rows']} rows, {first['tokens']:,} tokens. Forward and "
        "backward, median; each implementation in a process of its own, one after the other. All "
        "but the last keep freed memory in the process (`odmt_fast.training.memory`), as the "
        "training loop does; the last is the reference as it is, every activation a fresh "
        "mapping. The floor is the needed FLOP (DESIGN section 9 formula, "
        "`odmt_fast/studies/floor.py`) over the best matmul rate measured in that process, "
        "torch's or ours. Step memory is the growth of the peak resident memory over that of "
        "model and features.",
        "",
        table(head, body),
        "",
        f"## The engine's stages, {isa}",
        "",
        "Each with its backward. The floor of a stage is its share of the needed FLOP; saved is "
        "what its forward keeps for its backward.",
        "",
    ]
    head = ["stage", "dtype", "ms", "of the step", "of its floor", "saved GiB"]
    return "\n".join([*text, table(head, _stages(at))])


def _about_limits(limits: str) -> str:
    return (
        f"torch, oneDNN, MKL and the engine's own code were held to lesser instructions ({limits}) "
        "on a processor that has more. Where it has no instruction for bf16, others' bf16 takes "
        "minutes to hours a step and is not measured."
    )


def _stages(at: Rows) -> list[list[str]]:
    rows = []
    for dtype in ("fp32", "bf16"):
        row = at["engine", dtype]
        total = sum(stage["seconds"] for stage in row["stages"])
        for stage in row["stages"]:
            needed = row["needed_flop"].get(stage["name"])
            share = (
                "" if needed is None else f"{needed / row['matmul_flops'] / stage['seconds']:.0%}"
            )
            rows.append(
                [
                    stage["name"],
                    dtype,
                    f"{1e3 * stage['seconds']:,.1f}",
                    f"{stage['seconds'] / total:.1%}",
                    share,
                    f"{stage['saved_bytes'] / GIB:.3f}",
                ]
            )
    return rows


def headline(runs: Sequence[Mapping[str, Any]]) -> str:
    """The README's tables, one a run: one row an implementation, median and p20-p80."""
    return "\n\n".join(_headline(results) for results in runs)


def _headline(results: Mapping[str, Any]) -> str:
    at: Rows = {(row["implementation"], row["dtype"]): row for row in results["rows"]}

    def cell(name: str, dtype: str) -> str:
        if (name, dtype) not in at:
            return ""
        seconds = at[name, dtype]["seconds"]
        low, high = spread(seconds)
        return f"{median(seconds):.2f} s ({low:.2f}-{high:.2f})"

    body = [
        [
            label,
            *(cell(name, dtype) for dtype in ("fp32", "bf16")),
            f"{at[name, 'fp32']['step_bytes'] / GIB:.1f} GiB",
        ]
        for name, label in IMPLEMENTATIONS.items()
        if (name, "fp32") in at
    ]
    machine = results["machine"]
    isa = machine["isa"] + (" by emulation" if machine.get("limits") else "")
    head = ["one training step, batch 64, official settings", "fp32", "bf16", "memory (fp32)"]
    return "\n".join(
        [
            table(head, body),
            "",
            f"<sub>median (p20-p80); {machine['cores']} CPU cores ({isa}), torch "
            f"{machine['torch']}, {machine['date']}; `make bench`, `make report`. No figure on a "
            "GPU is claimed yet.</sub>",
        ]
    )
