"""Captured steps: those of a tape end in the bits of eager ones, whatever the batch brings."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training.padded_run import S, batches, make
from training.tape import Tape

from odmt_fast.batch.batch import Batch
from odmt_fast.batch.packet import send
from odmt_fast.config import Config, TrainingConfig
from odmt_fast.kernels.adamw import Resident
from odmt_fast.kernels.backend import ENVIRONMENT_VARIABLE
from odmt_fast.kernels.packed_attention import segments
from odmt_fast.models.zoo import BACKBONES, MODELS
from odmt_fast.training.captured import CapturedStep, CudaGraphs, capture_missing
from odmt_fast.training.precision import MixedPrecision
from odmt_fast.training.step import TrainingStep, adamw

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _torch_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tape sees torch's operators alone; values are checked where that is free: on a CPU."""
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "reference")
    monkeypatch.setattr(segments, "_check_values", lambda *_: None)


def training_step(model: nn.Module) -> TrainingStep:
    model.train()
    settings = TrainingConfig(learning_rate=0.01, clip_norm=0.5)
    return TrainingStep(
        model, adamw(model, settings), MixedPrecision("fp32", CPU), settings.clip_norm
    )


def bits(x: Tensor) -> bytes:
    return x.detach().contiguous().numpy().tobytes()


@pytest.mark.parametrize(
    ("name", "backbone", "resident"),
    [
        *((name, "sasrec", False) for name in MODELS),
        *(("odmt", other, False) for other in BACKBONES if other != "sasrec"),
        ("odmt", "sasrec", True),
    ],
)
def test_a_repeated_step_has_the_bits_of_an_eager_one(
    name: str, backbone: str, resident: bool
) -> None:
    eager = make(name, backbone)
    taped = copy.deepcopy(eager)
    tape = Tape()
    one, other = training_step(eager), CapturedStep(training_step(taped), tape)
    weights = set()
    for batch, epoch in batches(eager, resident=resident):
        terms, norm = one(batch, epoch)
        same, same_norm = other(batch, epoch)
        assert list(same) == list(terms)
        for key, term in terms.items():
            assert bits(same[key]) == bits(term), key
            assert not same[key].requires_grad
        assert bits(same_norm) == bits(norm)
        weights.add(float(terms.get("kd_weight", norm)))
    for (key, value), expected in zip(taped.named_parameters(), eager.parameters(), strict=True):
        assert bits(value) == bits(expected), key
    # Of six full batches the first trains, the second is recorded; the last of an epoch is short.
    assert (tape.recorded, tape.repeated) == (1, 4)
    assert len(weights) > 1


class ReadsTheEpoch(nn.Module):
    """A model whose loss asks the epoch itself instead of what the batch says of it."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.ones(2))

    def forward(self, batch: Batch, epoch: float) -> dict[str, Tensor]:
        return {"loss": (self.x * batch.counts.sum()).sum() * (1.0 + epoch)}


def test_a_number_that_would_be_repeated_shows_at_once() -> None:
    step = CapturedStep(training_step(ReadsTheEpoch()), Tape())
    losses = [float(step(*given)[0]["loss"]) for given in batches(make("id"), epochs=1)]
    assert np.isfinite(losses[0]) and np.isnan(losses[1])


def test_every_shape_has_its_record_and_a_short_batch_none() -> None:
    def doing_nothing(batch: Batch, epoch: float) -> tuple[dict[str, Tensor], Tensor]:
        return {"loss": batch.counts.sum().float()}, batch.counts.sum().float()

    tape, model = Tape(), make("id")
    step = CapturedStep(doing_nothing, tape)
    given = [batch for batch, _ in batches(model)]
    full = [batch for batch in given if batch.dummy_users]
    wider = [send(replace(batch, max_seqlen=S + 1), CPU)[0] for batch in full]
    for batch in (*given, *wider):
        assert float(step(batch, 1)[0]["loss"]) == float(batch.counts.sum())
    assert (len(given) - len(full), tape.recorded, tape.repeated) == (2, 2, 2 * len(full) - 4)


def test_where_steps_are_captured() -> None:
    gpu, config = torch.device("cuda", 0), Config().updated({"training.precision": "bf16"})
    assert capture_missing(config, gpu, 1) is None
    for device, processes, changes, reason in (
        (gpu, 1, {"training.capture": "off"}, "training.capture=off"),
        (gpu, 1, {"training.recompute": True}, "training.recompute=True"),
        (gpu, 1, {"training.micro_items": 8}, "training.micro_items"),
        (gpu, 1, {"model.id_table": "sparse"}, "model.id_table=sparse"),
        (gpu, 1, {"training.precision": "fp16"}, "training.precision=fp16"),
        (gpu, 2, {}, "2 processes"),
        (CPU, 1, {}, "cpu has no graphs"),
    ):
        found = capture_missing(config.updated(changes), device, processes)
        assert found is not None and found.startswith(reason)


class FakeCuda:
    """What `CudaGraphs` asks of torch.cuda, written down."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.fails = False

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = self

        class Stream:
            def __init__(self, device: object, name: str = "own") -> None:
                self.name = name

            def wait_stream(self, other: Stream) -> None:
                fake.said.append(f"{self.name} waits for {other.name}")

        class Graph:
            def replay(self) -> None:
                fake.said.append("replay")

        class Capture(nullcontext[None]):
            def __init__(self, graph: Graph, **options: object) -> None:
                super().__init__()
                fake.said.append(f"capture in {options['pool']}")

            def __exit__(self, *_: object) -> None:
                if fake.fails:
                    raise RuntimeError("operation not permitted when stream is capturing")

        for name, value in {
            "Stream": Stream,
            "CUDAGraph": Graph,
            "graph": Capture,
            "graph_pool_handle": lambda: "the pool",
            "current_stream": lambda device: Stream(device, "outside"),
            "stream": lambda stream: nullcontext(),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)


def test_graphs_share_a_pool_and_train_the_step_they_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda()
    cuda.install(monkeypatch)
    graphs = CudaGraphs(torch.device("cuda", 0))
    norm = torch.ones(())
    with graphs.active():
        for _ in range(2):
            (_, found), repeat = graphs.record(lambda: ({}, norm))
            assert found is norm
        repeat()
    captured = ["capture in the pool", "replay"]
    waits = ["own waits for outside"], ["outside waits for own"]
    assert cuda.said == [*waits[0], *captured, *captured, "replay", *waits[1]]
    cuda.fails = True
    with pytest.raises(RuntimeError, match=r"cannot be captured .* train with --no-capture"):
        graphs.record(lambda: ({}, norm))


def test_a_graph_has_settings_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, capturing = SimpleNamespace(type="cuda"), [False]
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing[0])
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(Tensor, "to", lambda self, device, non_blocking: self.clone())
    resident, values = Resident(torch.float64), ((1.0, 2.0),)
    eager = resident.of(values, gpu)  # type: ignore[arg-type]
    capturing[0] = True
    one, other = (resident.of(values, gpu) for _ in range(2))  # type: ignore[arg-type]
    assert len({x.data_ptr() for x in (eager, one, other)}) == 3
    assert all(torch.equal(x, torch.tensor(values, dtype=torch.float64)) for x in (one, other))
