"""One training step of one implementation, measured in a process of its own.

``python -m bench.step --implementation engine --dtype bf16`` prints one line of JSON: seconds of
every step (forward and backward), the memory it needs, and the floor measured beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import cycle

import torch
from torch import Tensor, nn

from bench.baselines import Tuned
from bench.machine import limited_isa, machine
from bench.memory import PeakMemory
from bench.rates import matmul_rate
from bench.stages import stage_seconds
from bench.workload import EPOCH, Workload
from odmt_fast.studies.floor import needed_work
from odmt_fast.training.compiled import CompiledModel
from odmt_fast.training.memory import keep_freed_memory

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def build(
    name: str, workload: Workload, *, vary: bool = False
) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The model in training mode and a function computing the loss of the workload's batch.

    With `vary` the engine's batch leaves out another user every time, as no two batches of a
    training run have the same number of tokens.
    """
    if name in ENGINES:
        engine = workload.engine()
        if vary:
            batches = cycle([workload.batch_without(user) for user in range(workload.users)])
        else:
            batches = cycle([workload.packed_batch])
        called = CompiledModel(engine) if name == "engine_compiled" else engine
        return engine, lambda: called(next(batches), EPOCH)["loss"]
    model: nn.Module = workload.reference()
    if name in ("tuned", "compiled"):
        model = Tuned(model, compiled=name == "compiled")
    item_ids, log_mask = workload.padded

    def loss() -> Tensor:
        ce, kd = model(EPOCH, item_ids, log_mask)
        return ce + kd

    return model, loss


ENGINES = ("engine", "engine_compiled")
"""The second as with ``training.compile``."""
IMPLEMENTATIONS = ("untouched", "reference", "tuned", "compiled", *ENGINES)
"""`untouched` is the reference in a process whose allocator is left as it is; all others keep
freed memory, as the engine's training loop does."""


def timed_steps(
    model: nn.Module, loss: Callable[[], Tensor], dtype: torch.dtype, steps: int
) -> list[float]:
    """Seconds of each forward and backward, after one to warm up."""
    seconds = []
    for _ in range(steps + 1):
        model.zero_grad(set_to_none=True)
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss()
        value.backward()
        seconds.append(time.perf_counter() - start)
        del value
    return seconds[1:]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--implementation", choices=IMPLEMENTATIONS, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--stages", action="store_true", help="engine: time the stages too")
    parser.add_argument("--recompute", action="store_true", help="engine: recompute activations")
    parser.add_argument("--as-is", action="store_true", help="leave the allocator as it is")
    parser.add_argument("--vary", action="store_true", help="engine: a batch of its own per step")
    options = parser.parse_args()
    dtype = DTYPES[options.dtype]
    limited_isa()
    if options.implementation != "untouched" and not options.as_is:
        keep_freed_memory()
    workload = Workload(users=options.users)
    model, loss = build(options.implementation, workload, vary=options.vary)
    if options.recompute:
        model.items.recompute = True
    batch = workload.packed_batch
    work = needed_work(workload.config, batch, batch.features)
    if options.implementation in ENGINES:
        workload.forget_padded_features()
    memory = PeakMemory()
    seconds = timed_steps(model, loss, dtype, options.steps)
    step_bytes, peak_bytes = memory.grown(), memory.peak()
    rate = matmul_rate(dtype)
    stages = stage_seconds(workload, dtype, options.steps) if options.stages else []
    print(
        json.dumps(
            {
                "implementation": options.implementation,
                "dtype": options.dtype,
                "recompute": options.recompute,
                "vary": options.vary,
                "users": options.users,
                "rows": batch.n_rows,
                "occurrences": batch.occurrences.shape[0],
                "slots": workload.users * (workload.steps + 1),
                "items": batch.items.shape[0],
                "tokens": sum(f.values.shape[0] for f in batch.features),
                "seconds": seconds,
                "step_bytes": step_bytes,
                "peak_bytes": peak_bytes,
                "needed_flop": asdict(work),
                "matmul_flops": rate,
                "isa": machine()["isa"],
                "threads": torch.get_num_threads(),
                "stages": [asdict(stage) for stage in stages],
            }
        )
    )


if __name__ == "__main__":
    main()
