"""Where the engine's step spends its time and memory, stage by stage."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bench.workload import EPOCH, Workload
from odmt_fast.batch.batch import Batch
from odmt_fast.kernels.batch_index import batch_index
from odmt_fast.models.noise import Noise

STAGES = ("batch", "items", "users", "loss", "optimizer")


@dataclass(frozen=True)
class Stage:
    """Median of a stage, its backward included.

    Attributes:
        name: one of `STAGES`.
        seconds: wall time.
        saved_bytes: what its forward keeps for its backward (tensors, each once).
    """

    name: str
    seconds: float
    saved_bytes: int


def stage_seconds(workload: Workload, dtype: torch.dtype, steps: int) -> list[Stage]:
    """Runs the step with its stages cut apart, after one to warm up."""
    engine = workload.engine()
    optimizer = torch.optim.AdamW(engine.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    lengths = torch.tensor([len(sequence) for sequence in workload.sequences])
    runs: list[dict[str, float]] = []
    saved: dict[str, int] = dict.fromkeys(STAGES, 0)
    for _ in range(steps + 1):
        optimizer.zero_grad(set_to_none=True)
        clock = _Clock()
        batch = Batch(
            **batch_index(torch.cat(workload.sequences), lengths, workload.steps)._asdict()
        )
        features = tuple(source.gather(batch.items) for source in engine.features.values())
        noise = Noise(engine.dropout, None, engine.log_p.device)
        clock.stop("batch")
        with _saved_bytes(saved, "items"):
            items = engine.items(batch.items, features, dtype, noise)
        clock.stop("items")
        item_input = items.detach().requires_grad_()
        with _saved_bytes(saved, "users"):
            states = engine.users(item_input, batch, noise)
        clock.stop("users")
        state_input = states.detach().requires_grad_()
        item_columns = items.detach().requires_grad_()
        with _saved_bytes(saved, "loss"):
            terms = engine.loss(state_input, item_columns, batch, engine.log_p[batch.items], EPOCH)
        terms["loss"].backward()
        clock.stop("loss")
        states.backward(state_input.grad)
        clock.stop("users")
        assert item_input.grad is not None
        items.backward(item_input.grad + item_columns.grad)
        clock.stop("items")
        torch.nn.utils.clip_grad_norm_(engine.parameters(), 5.0)
        optimizer.step()
        clock.stop("optimizer")
        runs.append(clock.seconds)
    return [
        Stage(name, statistics.median(run[name] for run in runs[1:]), saved[name])
        for name in STAGES
    ]


class _Clock:
    """Adds the time since the last stop to a stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._last = time.perf_counter()

    def stop(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now


@contextmanager
def _saved_bytes(totals: dict[str, int], stage: str) -> Iterator[None]:
    """Counts the storages autograd keeps, parameters and views of one storage once."""
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield
    totals[stage] = sum(storages.values())
