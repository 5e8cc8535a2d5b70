"""The training step at the official settings: reference, tuned, compiled, ours, official."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.baselines import Tuned
from bench.gpu.case import Setting
from bench.gpu.official import missing, official_step
from bench.gpu.rates import Rates
from bench.gpu.stopwatch import Times
from bench.workload import EPOCH, Workload
from odmt_fast.config import TrainingConfig
from odmt_fast.studies.floor import needed_work
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.step import TrainingStep, adamw

Step = Callable[[], Tensor]
CLIP = 5.0
OPERATOR = "training step"
OFFICIAL = "official code, fp16"


@dataclass(frozen=True)
class Entrant:
    """One implementation: makes its step; `slow_start` as in `bench.gpu.case.Variant`."""

    name: str
    make: Callable[[], Step]
    slow_start: bool = False


@dataclass
class _Run:
    name: str
    step: Step
    loss: float
    peak_bytes: int
    milliseconds: list[float] = field(default_factory=list)


def rows(setting: Setting, rates: Rates) -> Iterator[dict[str, Any]]:
    """One row per implementation at the official batch, then ours alone at a larger one."""
    workload = Workload(users=128)
    if setting.tiny:
        workload = Workload(users=4, width=32, steps=5, text_tokens=9, items=40)
    device = setting.device
    entrants = [
        Entrant("ours, bf16", partial(engine_step, workload, device, "bf16")),
        Entrant("reference, bf16", partial(reference_step, workload, setting, "reference")),
        Entrant("tuned reference, bf16", partial(reference_step, workload, setting, "tuned")),
        Entrant(
            "tuned reference, torch.compile, bf16",
            partial(reference_step, workload, setting, "compiled"),
            slow_start=True,
        ),
    ]
    if device.type == "cuda":
        entrants.insert(1, Entrant("ours, fp16", partial(engine_step, workload, device, "fp16")))
    reason = missing(workload)
    if reason:
        yield _head(workload, OFFICIAL) | {"skipped": reason}
    else:
        entrants.insert(-1, Entrant(OFFICIAL, partial(official_step, workload, device)))
    yield from compare(workload, entrants, setting, rates)
    if not setting.tiny:
        large = replace(workload, users=1024, items=20_000)
        alone = Entrant("ours, bf16", partial(engine_step, large, device, "bf16"))
        yield from compare(large, [alone], setting, rates)


def compare(
    workload: Workload, entrants: Sequence[Entrant], setting: Setting, rates: Rates
) -> Iterator[dict[str, Any]]:
    """Warms every step up, then times them in turn; a step that fails gets a row with its error.

    Rows come as in `bench.gpu.case.measure`: before the first slow start, and of all at the end.
    """
    measured: dict[str, dict[str, Any]] = {}
    runs: list[_Run] = []
    timed = 0
    for entrant in entrants:
        head = measured[entrant.name] = _head(workload, entrant.name)
        if setting.left < 0 and not head["ours"]:
            head["skipped"] = "the section's time was up"
            continue
        if entrant.slow_start and not timed:
            timed = len(runs)
            _time(workload, runs, measured, setting, rates)
            yield from (row for name, row in measured.items() if name != entrant.name)
        try:
            runs.append(_prepared(entrant.name, entrant.make, setting.device))
        except Exception as error:  # whatever a rival raises must not stop the others
            head["error"] = f"{type(error).__name__}: {error}"[:500]
            _free(setting.device)
    if len(runs) > timed:
        _time(workload, runs, measured, setting, rates)
    runs.clear()
    _free(setting.device)
    yield from measured.values()


def _time(
    workload: Workload,
    runs: Sequence[_Run],
    measured: dict[str, dict[str, Any]],
    setting: Setting,
    rates: Rates,
) -> None:
    """Times all that is prepared, from the start, and fills in their rows."""
    rounds, block = (3, 1) if setting.tiny else (7, 4)
    for run in runs:
        run.milliseconds.clear()
    for _ in range(rounds):
        for run in runs:
            run.milliseconds.append(_block(run.step, block, setting.device))
    batch = workload.packed_batch
    needed = needed_work(workload.config, batch, batch.features).total
    floor = {"both": 1e3 * needed / rates.matmul_flop, "bound": "matmul"}
    for run in runs:
        measured[run.name] |= {
            "both": asdict(Times.of(run.milliseconds)),
            "rounds": rounds,
            "steps_per_round": block,
            "users_per_s": 1e3 * workload.users / statistics.median(run.milliseconds),
            "floor": floor,
            "peak_bytes": run.peak_bytes,
            "loss": run.loss,
        }


def engine_step(workload: Workload, device: torch.device, precision: str) -> Step:
    """Ours, by the classes that train: batch to the device, tokens gathered there, one update."""
    model = workload.engine().to(device)
    sources = [tokens.to(device) for tokens in workload.sources]
    config = TrainingConfig(learning_rate=1e-4)
    step = TrainingStep(
        model,
        adamw(model, config),
        MixedPrecision(precision, device),
        CLIP,  # type: ignore[arg-type]
    )
    batch = workload.batch
    if device.type == "cuda":
        batch = batch.map(lambda x: x.pin_memory())

    def run() -> Tensor:
        moved = batch.map(lambda x: x.to(device, non_blocking=True))
        features = tuple(tokens.gather(moved.items) for tokens in sources)
        terms, _ = step(moved.with_features(features), EPOCH)
        return terms["loss"].detach()

    return run


def reference_step(workload: Workload, setting: Setting, kind: str) -> Step:
    """The reference as it is, tuned (SDPA, no padded slots), or tuned and compiled."""
    device = setting.device
    reference = workload.reference().to(device)
    reference.log_p = reference.log_p.to(device)
    reference.features = {name: x.to(device) for name, x in reference.features.items()}
    reference.masks = {name: x.to(device) for name, x in reference.masks.items()}
    model: nn.Module = reference
    if kind != "reference":
        model = Tuned(reference, compiled=kind == "compiled" and not setting.tiny)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    data = list(workload.padded)
    if device.type == "cuda":
        data = [tensor.pin_memory() for tensor in data]

    def step() -> Tensor:
        item_ids, log_mask = (tensor.to(device, non_blocking=True) for tensor in data)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            ce, kd = model(EPOCH, item_ids, log_mask)
        (ce + kd).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return (ce + kd).detach()

    return step


def _head(workload: Workload, name: str) -> dict[str, Any]:
    batch = workload.batch
    label = (
        f"{workload.users:,} users, {batch.items.shape[0]:,} distinct items, {batch.n_rows:,} rows"
    )
    ours = name.startswith("ours")
    return {"operator": OPERATOR, "case": label, "variant": name, "ours": ours, "note": ""}


def _prepared(name: str, make: Callable[[], Step], device: torch.device) -> _Run:
    """Compiles and warms up; the loss of the first step, and the memory a step needs."""
    step = make()
    loss = float(step())
    step()
    peak = 0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
    return _Run(name, step, loss, peak)


def _block(step: Step, count: int, device: torch.device) -> float:
    """Milliseconds of a step, by the clock, over `count` of them queued one after the other."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    _wait(device)
    return 1e3 * (time.perf_counter() - start) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
