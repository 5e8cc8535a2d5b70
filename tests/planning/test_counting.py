"""A counted step holds what a real one is seen to hold, and leaves the model as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import profile
from training.padded_run import batches, make

from odmt_fast.batch.batch import Batch
from odmt_fast.config import Config
from odmt_fast.features.tokens import PackedTokens
from odmt_fast.kernels.backend import extension_missing
from odmt_fast.kernels.linear import libraries
from odmt_fast.models import SequentialModel
from odmt_fast.planning.counting import counting
from odmt_fast.planning.footprint import Footprint, footprint
from odmt_fast.planning.heap import heap_growth
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.step import TrainingStep, adamw

CPU = torch.device("cpu")


def settings(precision: str) -> Config:
    return Config().updated({"training.precision": precision})


def batch_of(model: SequentialModel) -> Batch:
    return next(batch for batch, _ in batches(model, epochs=1) if batch.dummy_users)


def seen(model: SequentialModel, batch: Batch, precision: str, folder: Path) -> tuple[int, int]:
    """The most bytes that a real step holds beyond what was there, and bytes of all it makes,
    by the profiler's events of the allocator. What an operator takes and gives back before it
    returns, as oneDNN does for a product of bf16, is held but no tensor."""
    config = settings(precision)
    step = TrainingStep(
        model.train(),
        adamw(model, config.training),
        MixedPrecision(config.training.precision, CPU),
        5.0,
    )
    step(batch, 1)
    model.zero_grad(set_to_none=True)
    with profile(profile_memory=True) as recorded:
        step(batch, 1)
    path = folder / "trace.json"
    recorded.export_chrome_trace(str(path))
    events = sorted(json.loads(path.read_text())["traceEvents"], key=lambda e: e.get("ts", 0))
    sizes = [e["args"]["Bytes"] for e in events if e["name"] == "[memory]"]
    return max(accumulate(sizes)), sum(tensors_made(events))


def tensors_made(events: list[dict[str, Any]]) -> Iterator[int]:
    """Bytes of every allocation that outlives the innermost operator around it."""
    running: list[float] = []  # ends of the operators within which an event lies
    ends: dict[int, tuple[float, int]] = {}  # address -> end of its operator, bytes
    for event in events:
        if event.get("cat") == "cpu_op":
            running = [end for end in running if end >= event["ts"]]
            running.append(event["ts"] + event["dur"])
        elif event["name"] == "[memory]":
            running = [end for end in running if end >= event["ts"]]
            size, address = event["args"]["Bytes"], event["args"]["Addr"]
            if size > 0:
                ends[address] = (running[-1] if running else -inf, size)
            elif address in ends:
                end, size = ends.pop(address)
                if event["ts"] > end:
                    yield size
    for _, size in ends.values():
        yield size


def counted(model: SequentialModel, batch: Batch, precision: str) -> Footprint:
    return footprint(model, batch, model.sources, settings(precision))


def plain(model: SequentialModel) -> Batch:
    """A batch without dummies, as `footprint` counts it."""
    return next(batch for batch, _ in batches(model, epochs=1) if not batch.dummy_users)


@pytest.mark.skipif(extension_missing("cpu") is not None, reason="the extension is not built")
@pytest.mark.parametrize(
    ("precision", "bf16_is_fast"), [("fp32", False), ("bf16", False), ("bf16", True)]
)
@pytest.mark.parametrize("micro_items", [None, 4])
def test_the_peak_is_what_the_allocator_of_a_real_step_says(
    precision: str,
    bf16_is_fast: bool,
    micro_items: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choice = replace(libraries.current(), bf16_is_fast=bf16_is_fast)
    monkeypatch.setattr(libraries, "_chosen", choice)
    model = make(width=64)
    model.items.micro_items = micro_items  # type: ignore[assignment]
    batch = plain(model)
    assert all(isinstance(tokens, PackedTokens) for tokens in batch.features)
    found = counted(model, batch, precision)
    peak, made = seen(model, batch, precision, tmp_path)
    assert found.saved + found.backward == pytest.approx(peak, rel=0.03)
    assert found.made == pytest.approx(made, rel=0.15)  # to which seconds are in proportion


def test_weights_and_gradients_are_left_alone() -> None:
    model = make(width=16)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = counted(model, plain(model), "fp32")
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert found.optimizer == pytest.approx(2 * found.parameters, rel=0.05)
    assert found.flop > 0 and found.calls > 0


@pytest.mark.parametrize("backbone", ["gru4rec", "nextitnet", "hstu", "ligr"])
def test_every_backbone_is_counted(backbone: str) -> None:
    model = make(width=16, backbone=backbone)
    found = counted(model, plain(model), "fp32")
    assert found.saved > 0 and found.alive > found.parameters


def test_recomputing_keeps_less() -> None:
    model = make(width=64)
    batch = plain(model)
    whole = counted(model, batch, "fp32")
    model.items.micro_items = 2  # type: ignore[assignment]
    parts = counted(model, batch, "fp32")
    assert parts.saved < whole.saved and parts.flop > whole.flop


def test_nothing_is_written() -> None:
    weight = torch.ones(8, 8, requires_grad=True)
    with counting() as counts:
        product = weight @ weight
        del product
        assert counts.flop == 2 * 8**3
        assert (counts.live, counts.peak) == (0, 256)
        assert int(torch.arange(5).sum()) == 10  # whole numbers are computed
    assert torch.equal(weight, torch.ones(8, 8))


def test_products_are_timed_before_they_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure() -> libraries.Libraries:
        computed = torch.ones(1, 2) @ torch.ones(2, 1)
        return libraries.Libraries(False, False, False, matmul_fp32=computed.item())

    monkeypatch.setattr(libraries, "_chosen", None)
    monkeypatch.setattr(libraries, "measure", measure)
    with counting():
        libraries.current()
    assert libraries.current().matmul_fp32 == 2.0


def test_the_heap_says_what_it_takes() -> None:
    def step() -> None:
        parts = [torch.empty(2**20) for _ in range(8)]
        del parts

    grown = heap_growth(step)
    assert grown is None or grown >= 0
