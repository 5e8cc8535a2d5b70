"""Memory and time of a step against `training.micro_items`.

``python -m bench.micro_items`` takes steps over 8,192 users at width 64 with all activations kept
and with the items encoded N at a time, each in a process of its own, and saves what a step adds
to the resident memory and the CPU seconds it takes; ``--users 1024 --width 768`` is the official
width (several minutes). CPU seconds are those of all threads, less disturbed by what else the
machine does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from statistics import median
from typing import Any

from bench.memory import PeakMemory
from bench.results import measured, save, timed
from bench.table import table
from bench.workload import EPOCH, Workload
from odmt_fast import ODMT
from odmt_fast.batch.batch import Batch

SIZES = (0, 4096, 1024, 256, 64)
"""Items at a time; 0 keeps all activations."""


def step(model: ODMT, batch: Batch) -> None:
    """Forward and backward; the gradients of the step before are freed."""
    model.zero_grad(set_to_none=True)
    model(batch, EPOCH)["loss"].backward()


def measure(workload: Workload, micro_items: int, steps: int) -> dict[str, float]:
    """Bytes that a step adds, gradients included, and CPU seconds of the median step."""
    model, batch = workload.engine().train(), workload.packed_batch
    workload.forget_padded_features()
    model.items.micro_items = micro_items or None
    model(batch, EPOCH)["loss"].backward()
    model.zero_grad(set_to_none=True)
    memory, seconds = PeakMemory(), []
    for _ in range(steps):
        start = time.process_time()
        step(model, batch)
        seconds.append(time.process_time() - start)
    return {
        "step_bytes": memory.grown(),
        "cpu_seconds": median(seconds),
        "items": len(batch.items),
        "tokens": sum(f.values.shape[0] for f in batch.features),
        "rows": batch.n_rows,
    }


def main() -> None:
    """Measures and saves ``micro_items.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=8192)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--input-steps", type=int, default=12, help="longest input of a user")
    parser.add_argument("--items", type=int, default=5000, help="of the catalogue")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", type=int, help="measure this N here and print JSON")
    options = parser.parse_args()
    if options.only is not None:
        workload = Workload(options.users, options.width, options.input_steps, items=options.items)
        print(json.dumps(measure(workload, options.only, options.steps)))
        return
    rows = []
    for size in SIZES:
        found = measured("bench.micro_items", *sys.argv[1:], "--only", str(size))
        common = {"users": options.users, "width": options.width, "micro_items": size}
        rows.append(common | found)
        print(json.dumps(rows[-1]), flush=True)
    save(timed("micro_items"), rows)


def section(results: dict[str, Any]) -> str:
    """Memory and time of every size, for docs/performance.md."""
    rows = results["rows"]
    whole = rows[0]
    body = [
        [
            str(row["micro_items"] or "null"),
            f"{row['step_bytes'] / 2**20:,.0f}",
            f"{row['step_bytes'] / whole['step_bytes']:.0%}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['cpu_seconds'] / whole['cpu_seconds']:.2f}",
        ]
        for row in rows
    ]
    head = ["micro_items", "MiB of a step", "of all kept", "CPU s", "of all kept"]
    return "\n".join(
        [
            "## Large batches: `training.micro_items`",
            "",
            f"Forward and backward of {whole['users']:,} users at width {whole['width']} in fp32: "
            f"{whole['items']:,} distinct items, {whole['tokens']:,} tokens, {whole['rows']:,} "
            "rows. *MiB* is what a step adds to the resident memory, gradients included; null "
            "keeps all activations. CPU-seconds of the median step. "
            "`python -m bench.micro_items`.",
            "",
            table(head, body),
        ]
    )


if __name__ == "__main__":
    main()
