"""What `odmt-fast plan` predicts of a step, beside what the step then takes.

``python -m bench.plan`` predicts and measures steps of 64 to 512 users at widths 64 and 256, in
fp32 and, where it is fast, in bf16, in one pass and by `training.micro_items`. A process of its own
predicts, from steps of the smaller sizes that it times, and one for every row then takes the steps,
under the allocator of training; the peak is that of its memory beyond files. A few minutes on two
cores; nothing else may run, or the seconds are no measurement. ``--widths 64 --users 64 128`` is a
part.
"""

from __future__ import annotations

import argparse
import gc
import json
from functools import partial
from typing import Any

import torch

from bench.memory import PeakMemory
from bench.results import measured, save, timed
from bench.table import table
from bench.workload import EPOCH, Workload
from odmt_fast.batch.batch import Batch
from odmt_fast.config import Config
from odmt_fast.kernels.linear.libraries import current
from odmt_fast.models import SequentialModel
from odmt_fast.planning.footprint import Footprint, footprint
from odmt_fast.planning.heap import resident_bytes
from odmt_fast.planning.pace import Probe, Rates
from odmt_fast.planning.pace import timed as seconds_of
from odmt_fast.training.memory import keep_freed_memory, release_freed_memory
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.step import TrainingStep, adamw

USERS, MICRO_ITEMS = (64, 128, 512), (0, 256)
PROBED = (16, 32, 64, 128, 256)
NEAR = 0.1


def settings(precision: str) -> Config:
    """Of the optimiser and the precision."""
    return Config().updated({"training.precision": precision})


def made(users: int, width: int, micro_items: int) -> tuple[SequentialModel, Batch]:
    """A model and its batch."""
    workload = Workload(users, width)
    model, batch = workload.engine().train(), workload.packed_batch
    workload.forget_padded_features()
    model.items.micro_items = micro_items or None  # type: ignore[assignment]
    return model, batch


def stepper(model: SequentialModel, config: Config) -> TrainingStep:
    """Takes steps of a run."""
    precision = MixedPrecision(config.training.precision, torch.device("cpu"))
    return TrainingStep(model, adamw(model, config.training), precision, config.training.clip_norm)


def predict(width: int, precision: str, users: list[int]) -> list[dict[str, Any]]:
    """Rows of all ways; nothing of the sizes beyond `PROBED` is computed."""
    keep_freed_memory()
    current()
    config, probes, libraries = settings(precision), [], 0
    # Before any step is computed, as `odmt_fast.planning.plan` does.
    rows = [counted(size, width, micro, config) for size in users for micro in MICRO_ITEMS]
    for size in PROBED:
        model, batch = made(size, width, 0)
        counts = footprint(model, batch, model.sources, config)
        seconds, left = taken(model, batch, config)
        libraries += left
        probes.append(Probe(size, counts, seconds))
    rates = Rates.of(probes)
    return [
        {**row, "libraries": libraries, "predicted_seconds": rates.seconds(counts)}
        for row, counts in rows
    ]


def counted(
    users: int, width: int, micro_items: int, config: Config
) -> tuple[dict[str, Any], Footprint]:
    """What is predicted of a row but its seconds, and what these follow from."""
    release_freed_memory()  # or the model is made in the middle of what the row before left
    model, batch = made(users, width, micro_items)
    counts = footprint(model, batch, model.sources, config)
    row = {
        "width": width, "precision": config.training.precision, "users": users,
        "micro_items": micro_items, "items": len(batch.items), "rows": batch.n_rows,
        "alive": counts.alive, "parameters": counts.parameters,
        "tokens": counts.tokens, "grown": counts.grown,
    }  # fmt: skip
    return row, counts


def taken(model: SequentialModel, batch: Batch, config: Config) -> tuple[float, int]:
    """Seconds of a step, and bytes that stay with the process when all of it is freed."""
    release_freed_memory()
    before = resident_bytes() or 0
    step = partial(stepper(model, config), batch, EPOCH)
    seconds = seconds_of(step)
    del step
    model.zero_grad(set_to_none=True)
    gc.collect()
    release_freed_memory()
    return seconds, max(0, (resident_bytes() or 0) - before)


def measure(width: int, precision: str, users: int, micro_items: int) -> dict[str, float]:
    """Takes the steps."""
    keep_freed_memory()
    current()
    model, batch = made(users, width, micro_items)
    step = partial(stepper(model, settings(precision)), batch, EPOCH)
    memory, before = PeakMemory(), resident_bytes()
    seconds = seconds_of(step)
    return {"before": before or 0, "grown": memory.grown(), "seconds": seconds}


def joined(row: dict[str, Any], found: dict[str, float]) -> dict[str, Any]:
    """Prediction and measurement of the peak of the process, whose batch was there before."""
    beside = found["before"] - row["tokens"] + row["libraries"]
    return {
        **row,
        "predicted_bytes": beside + row["grown"],
        "measured_bytes": found["before"] + found["grown"],
        "measured_seconds": found["seconds"],
    }


def missed(row: dict[str, Any], what: str) -> float:
    """Relative error of a prediction."""
    return float(row[f"predicted_{what}"]) / float(row[f"measured_{what}"]) - 1


def section(results: dict[str, Any]) -> str:
    """Predictions beside measurements, for docs/performance.md."""
    rows = results["rows"]
    head = ["users", "width", "dtype", "micro_items", "tensors GiB"]
    head += ["predicted GiB", "measured GiB", "off", "predicted s", "measured s", "off"]
    body = [
        [
            f"{row['users']:,}",
            str(row["width"]),
            row["precision"],
            str(row["micro_items"] or "null"),
            f"{row['alive'] / 2**30:.2f}",
            *_cells(row, "bytes", 2**30, "{:.2f}"),
            *_cells(row, "seconds", 1, "{:.3g}"),
        ]
        for row in rows
    ]
    near = {what: sum(abs(missed(row, what)) <= NEAR for row in rows) for what in _KINDS}
    return "\n".join(
        [
            "## What `odmt-fast plan` predicts",
            "",
            f"The peak is within {NEAR:.0%} in {near['bytes']} of {len(rows)} rows, the time in "
            f"{near['seconds']}. *Tensors* is what is counted alive; *predicted* adds what the "
            "process holds before the step, what stayed with it after the timed ones (the "
            "libraries' own blocks, say oneDNN's kernels) and what the heap takes beyond tensors. "
            f"Seconds rest on timed steps of {', '.join(map(str, PROBED))} users in one pass. "
            "Forward, backward and update; `python -m bench.plan`.",
            "",
            table(head, body),
        ]
    )


_KINDS = ("bytes", "seconds")


def _cells(row: dict[str, Any], what: str, unit: float, form: str) -> list[str]:
    values = [form.format(row[f"{kind}_{what}"] / unit) for kind in ("predicted", "measured")]
    return [*values, f"{missed(row, what):+.0%}"]


def main() -> None:
    """Predicts, measures, saves and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--users", type=int, nargs="+", default=[*USERS])
    precisions = ["fp32", "bf16"] if current().bf16_is_fast else ["fp32"]
    parser.add_argument("--precisions", nargs="+", default=precisions)
    parser.add_argument("--predict", action="store_true", help="here, and print JSON")
    parser.add_argument("--measure", type=int, help="of these micro_items, here, and print JSON")
    parser.add_argument("--dry", action="store_true", help="print the table and save nothing")
    options = parser.parse_args()
    first = options.widths[0], options.precisions[0]
    if options.predict:
        print(json.dumps({"rows": predict(*first, options.users)}))
        return
    if options.measure is not None:
        print(json.dumps(measure(*first, options.users[0], options.measure)))
        return
    rows = []
    for width in options.widths:
        for precision in options.precisions:
            own = ["--widths", str(width), "--precisions", precision, "--users"]
            found = measured("bench.plan", "--predict", *own, *map(str, options.users))
            for row in found["rows"]:
                taken = ["--measure", str(row["micro_items"]), *own, str(row["users"])]
                rows.append(joined(row, measured("bench.plan", *taken)))
                print(json.dumps(rows[-1]), flush=True)
    if not options.dry:
        save(timed("plan"), rows)
    print(section({"rows": rows}))


if __name__ == "__main__":
    main()
