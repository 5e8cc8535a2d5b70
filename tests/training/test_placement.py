"""Where tokens lie and how many threads make batches: by numbers alone, and with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from training.test_odmt import build, run
from training.toy_run import Silent, differences, state_of, toy_config, toy_split

from odmt_fast.config import Residency
from odmt_fast.features.resident import ResidentTable
from odmt_fast.features.tokens import TokenTable
from odmt_fast.training import placement, train
from odmt_fast.training.placement import Machine, Placement, placed, reading
from odmt_fast.training.precision import products_of_fp32

GB = 10**9
CPU = Machine("cpu", 0, 20 * GB, 16)
GPU = Machine("cuda", 100 * GB, 400 * GB, 16)


@pytest.mark.parametrize(
    ("size", "machine", "expected"),
    [
        (50 * GB, GPU, Placement("device", 2)),
        (51 * GB, GPU, Placement("pinned", 2)),
        (200 * GB, GPU, Placement("pinned", 2)),
        (201 * GB, GPU, Placement("mmap", 8)),
        (51 * GB, GPU._replace(processes=8), Placement("mmap", 4)),
        (50 * GB, GPU._replace(processes=8), Placement("device", 1)),
        (201 * GB, GPU._replace(cores=6), Placement("mmap", 5)),
        (201 * GB, GPU._replace(cores=1), Placement("mmap", 4)),
        (1, GPU._replace(cores=1), Placement("device", 1)),
        (0, GPU, Placement("mmap", 2)),
        (1, GPU._replace(free_device=0, free_host=0), Placement("mmap", 8)),
        (1, CPU, Placement("mmap", 0)),
        (0, CPU, Placement("mmap", 0)),
    ],
)
def test_what_is_chosen(size: int, machine: Machine, expected: Placement) -> None:
    assert placed("auto", None, size, machine) == expected


@pytest.mark.parametrize("machine", [CPU, GPU])
@pytest.mark.parametrize("residency", ["device", "mmap"])
def test_what_is_asked_for_is_done(residency: Residency, machine: Machine) -> None:
    assert placed(residency, 3, GB, machine) == Placement(residency, 3)


def test_memory_that_is_not_known_is_tried() -> None:
    unknown = CPU._replace(free_host=0)
    assert placed("device", None, GB, unknown) == Placement("device", 0)


@pytest.mark.parametrize(
    ("residency", "machine", "message"),
    [
        ("pinned", CPU, "features.residency='pinned' needs a GPU that reads host memory, not cpu"),
        ("device", CPU, "features.residency='device' needs 500.0 GB, 20.0 GB are free; use 'auto'"),
        ("device", GPU, "features.residency='device' needs 500.0 GB, 100.0 GB are free"),
        ("pinned", GPU._replace(processes=2), "'pinned' needs 500.0 GB, 200.0 GB are free"),
    ],
)
def test_what_cannot_be_is_said(residency: Residency, machine: Machine, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        placed(residency, None, 500 * GB, machine)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resident_table_changes_no_bit(tmp_path: Path, precision: str, workers: int) -> None:
    quiet, talking = Silent(), Silent()
    run(tmp_path / "mapped", quiet, precision=precision)
    options = {"precision": precision, "workers": workers, "features.residency": "device"}
    run(tmp_path / "resident", talking, **options)
    assert differences(state_of(tmp_path / "mapped"), state_of(tmp_path / "resident")) == []
    assert not any("tokens are" in message for message in quiet.messages)
    expected = f"tokens are in the device's memory (features.residency=device), {workers} workers"
    assert talking.messages.count(expected) == 1


def test_a_resident_table_serves_the_validation_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(tmp_path, epochs=2, tensorboard=False, **{"features.residency": "device"})
    model, features = build(config.updated({"model.width": 16}))
    expected = model.encode_catalogue()
    read: list[Any] = []
    gather = TokenTable.gather
    monkeypatch.setattr(TokenTable, "gather", lambda *a: read.append(a) or gather(*a))

    def validate(model: Any) -> dict[str, float]:
        before = len(read)
        encoded = model.encode_catalogue()
        assert len(read) == before and encoded.shape == expected.shape
        return {"ndcg@10": 0.0}

    train(model, toy_split(), features, config.updated({"model.width": 16}), validate, Silent())
    assert len(read) == len(features)  # once each, into the tables
    resident = [ResidentTable.of(source, torch.device("cpu")) for source in features]
    again = model.encode_catalogue()
    with reading(model, resident):
        assert torch.equal(model.encode_catalogue(), again)
    assert not model.read_from


def test_sizes_are_known_without_reading_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(tmp_path)
    _, features = build(config)
    monkeypatch.setattr(type(features[0]), "gather", None)
    seen: list[int] = []
    monkeypatch.setattr(placement, "placed", lambda *given: seen.append(given[2]))
    placement.placement_of(config, features, torch.device("cpu"))
    assert seen == [sum(source.values.nbytes for source in features)]


def test_free_memory_is_less_than_all() -> None:
    assert 0 <= placement.free_host_bytes() < 2**50


@pytest.mark.parametrize(("precision", "within"), [("tf32", "high"), ("fp32", "highest")])
def test_tf32_is_for_the_run_alone(precision: Any, within: str) -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), products_of_fp32(precision):
        assert torch.get_float32_matmul_precision() == within
        raise KeyError
    assert torch.get_float32_matmul_precision() == before
