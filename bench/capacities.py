"""What padding to a few shapes costs, and what it saves on a CPU.

``python -m bench.capacities`` prints, for real sequences and lengths of texts (shared/data) and 50
image tokens an item, the FLOP that the dummies add and the batches that fit nowhere; then, for
steps over varying batches with and without capacities, CPU seconds a step and the primitives that
oneDNN makes. CPU seconds are those of one thread, less disturbed by what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from bench.table import table
from bench.trainings import SOURCES
from odmt_fast import ModelConfig
from odmt_fast.batch import BatchLoader, Collator, UserSampler
from odmt_fast.batch.capacities import Array, Capacities, Sizes
from odmt_fast.data import leave_one_out, read
from odmt_fast.features.tokens import TokenTable
from odmt_fast.kernels.linear.libraries import Libraries, current, use
from odmt_fast.models.zoo import build
from odmt_fast.training.shapes import SAMPLED, step_flop

DATA = ("amazon-electronics", "movielens-posters")
STEPS, TEXT, IMAGE, DIM = 12, 30, 50, 64
OFFICIAL = 768


@dataclass(frozen=True)
class Workload:
    """Sequences and token counts of a data set; random tokens.

    Attributes:
        name: folder of shared/data.
        batch_size: B.
        width: d of the model.
    """

    name: str
    batch_size: int
    width: int = OFFICIAL

    @cached_property
    def data(self) -> tuple[Array, Collator, dict[str, TokenTable]]:
        """Popularity, the collator of the training sequences, and its sources."""
        data = read(SOURCES / self.name, "official", decode_images=False)
        split = leave_one_out(data.sequences, len(data.items.ids), STEPS)
        words = [min(TEXT, 1 + len((text or "").split())) for text in data.items.texts]
        counts = {"text": [0, *words], "image": [0] + [IMAGE] * len(words)}
        sources = {name: _tokens(torch.tensor(own)) for name, own in counts.items()}
        collate = Collator(split.train, STEPS, tuple(sources.values()))
        return split.popularity, collate, sources

    @cached_property
    def sampler(self) -> UserSampler:
        """The order of the users."""
        return UserSampler(self.data[1].users, self.batch_size, seed=1)

    @cached_property
    def config(self) -> ModelConfig:
        """The official architecture in this width."""
        return ModelConfig(width=self.width, max_seq_len=STEPS)

    def flop(self, rows: Array, items: Array, tokens: Array) -> Array:
        """Of steps; the tokens as wide as the model, as officially."""
        return step_flop(self.config, [self.width] * 2, rows, items, tokens)

    @cached_property
    def capacities(self) -> Capacities:
        """As training chooses them."""
        collate = self.data[1]
        return Capacities.choose(
            collate.first_sizes(self.sampler, SAMPLED), collate.limits, self.flop
        )


def _tokens(counts: torch.Tensor) -> TokenTable:
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    values = torch.zeros(int(offsets[-1]), DIM, dtype=torch.float16)
    return TokenTable(values, offsets)


def padded_flop(workload: Workload, batches: int) -> dict[str, object]:
    """What `batches` later than those chosen by are padded to."""
    own: list[float] = []
    padded, outside, began = 0.0, 0, time.process_time()
    capacities = workload.capacities
    chosen = time.process_time() - began
    epoch = 1 + -(-SAMPLED // workload.sampler.steps)
    while len(own) < batches:
        epoch += 1
        order = workload.sampler.order(epoch)
        for step in range(min(workload.sampler.steps, batches - len(own))):
            sizes = workload.data[1].sizes(workload.sampler.batch(order, step))
            held = capacities.of(sizes)
            outside += held is None and sizes.users == workload.batch_size
            own.append(_one(workload, sizes))
            padded += own[-1] if held is None else _one(workload, held)
    return {
        "data": workload.name,
        "batch": workload.batch_size,
        "shapes": len(capacities.buckets),
        "FLOP added": f"{padded / sum(own) - 1:.2%}",
        "fit nowhere": f"{outside} of {len(own)}",
        "chosen in CPU s": f"{chosen:.1f}",
    }


def _one(workload: Workload, sizes: Sizes) -> float:
    rows, items, tokens = (np.array([n]) for n in (sizes.rows, sizes.items, sizes.tokens))
    return float(workload.flop(rows, items, tokens)[0])


def run_steps(workload: Workload, dtype: str, steps: int, *, padded: bool) -> None:
    """Prints a mark after half of the steps, and the CPU milliseconds of each of the others."""
    popularity, collate, sources = workload.data
    generator = torch.Generator().manual_seed(1)
    model = build(workload.config, popularity, sources, generator=generator).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    capacities = workload.capacities if padded else None
    done, began = 0, 0.0
    with BatchLoader(
        collate, batch_size=workload.batch_size, seed=1, capacities=capacities
    ) as loader:
        for batch in loader.epoch(1):
            if done == steps // 2:
                print("MARK", flush=True)
                began = time.process_time()
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                loss = model(batch, 5)["loss"]
            loss.backward()
            optimizer.step()
            if (done := done + 1) == steps:
                break
    print(f"CPU {1e3 * (time.process_time() - began) / (done - steps // 2):.1f}", flush=True)


def measured(workload: Workload, dtype: str, steps: int) -> list[dict[str, object]]:
    """Steps without and with capacities, in processes of their own, timed and then counted."""
    rows = []
    # One choice for all of them: measured in each, it may differ on a busy machine.
    libraries = json.dumps(current().to_json())
    for padded in (False, True):
        sizes = [workload.batch_size, workload.width]
        words = [workload.name, *sizes, dtype, steps, int(padded), libraries]
        command = [sys.executable, "-m", "bench.capacities", "--child", *map(str, words)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        timed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        environment["ONEDNN_VERBOSE"] = "profile_create"
        told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        made = told.stdout.split("MARK")[1].count("create:cache_miss")
        rows.append(
            {
                "data": workload.name,
                "batch": workload.batch_size,
                "width": workload.width,
                "dtype": dtype,
                "padded": "yes" if padded else "no",
                "CPU ms a step": timed.stdout.split("CPU ")[1].strip(),
                "primitives made a step": f"{made / (steps - steps // 2):.1f}",
            }
        )
    return rows


def _table(rows: list[dict[str, object]]) -> str:
    return table(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=2_000)
    parser.add_argument("--steps", type=int, default=40, help="0 measures no steps")
    parser.add_argument("--widths", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--dtypes", nargs="*", default=["bf16", "fp32"])
    parser.add_argument("--child", nargs=7, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, batch, width, dtype, steps, padded, libraries = arguments.child
        use(Libraries.from_json(json.loads(libraries)))
        workload = Workload(name, int(batch), int(width))
        run_steps(workload, dtype, int(steps), padded=bool(int(padded)))
        return
    found = [padded_flop(Workload(name, b), arguments.batches) for name in DATA for b in (64, 128)]
    print(_table(found))
    if arguments.steps:
        rows = []
        for width in arguments.widths:
            for dtype in arguments.dtypes:
                rows += measured(Workload(DATA[0], 64, width), dtype, arguments.steps)
        print(_table(rows))


if __name__ == "__main__":
    main()
