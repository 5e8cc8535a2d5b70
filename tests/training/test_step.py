"""One step against the same arithmetic spelled out; precision."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from odmt_fast.config import TrainingConfig
from odmt_fast.training.meter import LossMeter
from odmt_fast.training.optimizer import ClippingAdamW
from odmt_fast.training.precision import MixedPrecision, training_device
from odmt_fast.training.step import TrainingStep, adamw

CPU = torch.device("cpu")


class Quadratic(nn.Module):
    """A loss with known gradients: 30 x."""

    def __init__(self) -> None:
        super().__init__()
        self.x = nn.Parameter(torch.tensor([3.0, -4.0]))
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.epochs: list[int] = []
        self.dtypes: list[torch.dtype] = []

    def forward(self, batch: Any, epoch: int) -> dict[str, Tensor]:
        self.epochs.append(epoch)
        self.dtypes.append((self.x[None] @ self.x[:, None]).dtype)
        return {"loss": 15.0 * self.x.square().sum()}


def test_a_step_clips_and_then_applies_adamw() -> None:
    model = Quadratic()
    config = TrainingConfig(learning_rate=0.1, weight_decay=0.1, clip_norm=5.0)
    optimizer = adamw(model, config)
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["fused"]
    step = TrainingStep(model, optimizer, MixedPrecision("fp32", CPU), config.clip_norm)

    x = torch.tensor([3.0, -4.0], dtype=torch.float64)
    mean, square = torch.zeros(2).double(), torch.zeros(2).double()
    for t in (1, 2, 3):
        terms, norm = step(SimpleNamespace(weight=None), epoch=t)  # type: ignore[arg-type]
        gradient = 30 * x
        assert float(norm) == pytest.approx(float(gradient.norm()), rel=1e-5)
        assert float(terms["loss"].detach()) == pytest.approx(
            15 * float(x.square().sum()), rel=1e-5
        )
        gradient = gradient * 5.0 / gradient.norm()
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient.square()
        x = x * (1 - 0.1 * 0.1)
        x = x - 0.1 * (mean / (1 - 0.9**t)) / ((square / (1 - 0.999**t)).sqrt() + 1e-8)
        torch.testing.assert_close(model.x.detach().double(), x, rtol=1e-5, atol=1e-6)
    assert model.epochs == [1, 2, 3]
    assert model.dtypes == [torch.float32] * 3


def test_an_optimiser_that_clips_is_left_to_it() -> None:
    config = TrainingConfig(learning_rate=0.1, weight_decay=0.1, clip_norm=5.0)
    norms, weights = [], []
    for kind in (torch.optim.AdamW, ClippingAdamW):
        model = Quadratic()
        optimizer = kind([model.x], lr=config.learning_rate, weight_decay=config.weight_decay)
        step = TrainingStep(model, optimizer, MixedPrecision("fp32", CPU), config.clip_norm)
        norms.append([step(SimpleNamespace(weight=None), epoch=t)[1] for t in (1, 2, 3)])  # type: ignore[arg-type]
        weights.append(model.x.detach())
    torch.testing.assert_close(*norms)
    torch.testing.assert_close(*weights)


def test_bf16_is_autocast_with_fp32_weights() -> None:
    model = Quadratic()
    optimizer = adamw(model, TrainingConfig())
    TrainingStep(model, optimizer, MixedPrecision("bf16", CPU), 5.0)(
        SimpleNamespace(weight=None), 1
    )  # type: ignore[arg-type]
    assert model.dtypes == [torch.bfloat16]
    assert model.x.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_fp16_leaves_out_steps_that_overflow_and_lowers_the_scale() -> None:
    # The scaler works on any device; only the arithmetic needs a GPU.
    precision = MixedPrecision("fp32", CPU)
    precision._scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    assert precision.skips_overflows
    model = Quadratic()
    optimizer = adamw(model, TrainingConfig())

    def step(factor: float) -> Tensor:
        optimizer.zero_grad()
        precision.backward(model(None, 1)["loss"] * factor, optimizer)
        gradient = model.x.grad
        assert gradient is not None
        precision.step(optimizer)
        return gradient

    before = model.x.detach().clone()
    step(1e38)
    assert torch.equal(model.x, before)
    assert precision.state()["scale"] == 2.0
    assert torch.allclose(step(1.0), 30 * before)
    assert not torch.equal(model.x, before)

    other = MixedPrecision("fp32", CPU)
    other._scaler = torch.amp.GradScaler("cpu")
    other.restore(json.loads(json.dumps(precision.state())))
    assert other.state() == precision.state()


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        adamw(nn.Module(), TrainingConfig())


def test_auto_takes_the_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device("auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert training_device("auto") == training_device("cuda") == torch.device("cuda:0")


def test_every_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert training_device("auto") == training_device("cuda") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="'cuda:0' is one device for 3 processes; use 'cuda'"):
        training_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="'cuda:2' does not exist: torch sees 2 CUDA devices"):
        training_device("auto")


def test_the_meter_keeps_the_latest_interval() -> None:
    def terms(value: float) -> tuple[dict[str, Tensor], Tensor]:
        x = torch.tensor(value, requires_grad=True)
        return {"loss": x, "id/ce": x + 1, "text/kd": x + 2}, x + 3

    meter = LossMeter(2, CPU)
    meter.add(*terms(1.0))
    assert not meter.full
    meter.add(*terms(5.0))
    assert meter.full
    assert meter.rows().tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert meter.rows(1).tolist() == [[5, 6, 7, 8]]
    assert meter.columns == ("loss", "id/ce", "text/kd", "gradient_norm")
    other = LossMeter(3, CPU)
    other.restore(meter.columns, torch.from_numpy(meter.rows()))
    other.add(*terms(9.0))
    assert other.rows()[:, 0].tolist() == [1, 5, 9]
    other.clear()
    assert other.rows().shape == (0, 4)
    # Another session may ask for shorter intervals.
    short = LossMeter(1, CPU)
    short.restore(meter.columns, torch.from_numpy(meter.rows()))
    short.add(*terms(9.0))
    assert short.full
    assert short.rows()[:, 0].tolist() == [1, 5, 9]
