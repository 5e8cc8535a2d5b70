"""Time and memory of a training step against the size of the ID table, dense and sparse.

``python -m bench.id_table`` trains the model of IDs (SASRec, width 32, 128 users a step) on random
items of catalogues of 1 and 10 million, each in a process of its own: CPU seconds of a whole step
(forward, backward, clipping, update) and the most memory that is resident. The dense table of 10
million takes 6 GB and a few minutes; ``--items`` names other sizes.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median
from typing import Any

import torch

from bench.memory import PeakMemory
from bench.results import measured, save, timed
from bench.table import table
from odmt_fast.batch.batch import Batch
from odmt_fast.config import Config
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.models.zoo import build
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.step import TrainingStep, adamw

USERS, LENGTH = 128, 13


def measure(kind: str, items: int, width: int, steps: int) -> dict[str, float]:
    """CPU seconds of the median step, and bytes resident at most."""
    config = Config().updated(
        {"model.name": "id", "model.width": width, "model.max_seq_len": 12, "model.id_table": kind}
    )
    generator = torch.Generator().manual_seed(1)
    model = build(config, torch.full((items + 1,), 1.0 / items), generator=generator).train()
    settings = config.training
    precision = MixedPrecision("fp32", torch.device("cpu"))
    step = TrainingStep(model, adamw(model, settings), precision, settings.clip_norm)
    memory, seconds = PeakMemory(), []
    for number in range(steps + 1):
        drawn = torch.randint(1, items + 1, (USERS * LENGTH,), generator=generator)
        index = batch_index(drawn, torch.full((USERS,), LENGTH), 12)._asdict()
        batch = Batch(**index, noise=torch.tensor([number]))
        start = time.process_time()
        step(batch, 1)
        seconds.append(time.process_time() - start)
    return {"cpu_seconds": median(seconds[1:]), "peak_bytes": memory.peak()}


def main() -> None:
    """Measures and saves ``id_table.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--only", choices=("dense", "sparse"), help="measure here, print JSON")
    options = parser.parse_args()
    if options.only is not None:
        print(json.dumps(measure(options.only, options.items[0], options.width, options.steps)))
        return
    rows = []
    for items in options.items:
        for kind in ("dense", "sparse"):
            words = f"--items {items} --width {options.width} --steps {options.steps}"
            found = measured("bench.id_table", *words.split(), "--only", kind)
            common = {"items": items, "width": options.width, "users": USERS, "id_table": kind}
            rows.append(common | found)
            print(json.dumps(rows[-1]), flush=True)
    save(timed("id_table"), rows)


def section(results: dict[str, Any]) -> str:
    """Both tables at every size, for docs/performance.md."""
    rows = results["rows"]
    body = [
        [
            f"{row['items']:,}",
            row["id_table"],
            f"{row['cpu_seconds']:.3f}",
            f"{row['peak_bytes'] / 2**30:.2f}",
        ]
        for row in rows
    ]
    head = ["items", "model.id_table", "CPU s a step", "GiB resident"]
    return "\n".join(
        [
            "## Large ID tables",
            "",
            f"Whole steps (forward, backward, clipping, update) of SASRec on IDs, width "
            f"{rows[0]['width']}, {rows[0]['users']} users, random items "
            "([models.md](models.md)); CPU-seconds of the median step, and the most memory of the "
            "process. `python -m bench.id_table`.",
            "",
            table(head, body, left=2),
        ]
    )


if __name__ == "__main__":
    main()
