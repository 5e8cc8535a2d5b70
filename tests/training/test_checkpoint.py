"""Checkpoint files: whole or absent, readable without pickle, found where a run keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from training.toy_run import toy_train

from odmt_fast.storage import StorageError
from odmt_fast.storage import tensors as storage_tensors
from odmt_fast.training import checkpoint
from odmt_fast.training.errors import CheckpointError


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    for file in (checkpoint.LAST, checkpoint.BEST):
        left = tmp_path / "checkpoints" / file
        left.parent.mkdir(parents=True)
        left.with_name(f".{left.name}.1-2.part").write_bytes(b"half a checkpoint")
    toy_train(tmp_path, epochs=1)
    assert not list(tmp_path.rglob("*.part"))


def test_tensors_and_header_come_back_exactly(tmp_path: Path) -> None:
    tensors = {
        "model/a": torch.randn(3, 4)[:, ::2],
        "model/b": torch.tensor(0.1, dtype=torch.bfloat16),
        "random/cpu": torch.get_rng_state(),
        "empty": torch.zeros(0, 3, dtype=torch.float64),
    }
    header = {"score": 0.1 + 0.2, "best": -float("inf"), "names": ["text\u2190id"]}
    path = tmp_path / "deep" / "file.safetensors"
    checkpoint.save(path, tensors, header)
    loaded, read = checkpoint.load(path)
    assert read == header
    assert loaded.keys() == tensors.keys()
    for name, value in tensors.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_weights_that_share_memory_are_kept_apart(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    path = tmp_path / "file.safetensors"
    checkpoint.save(path, {"all": whole, "again": whole, "part": whole[2:4]}, {})
    loaded = checkpoint.load(path)[0]
    assert torch.equal(loaded["again"], whole)
    assert loaded["part"].tolist() == [2.0, 3.0]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.safetensors"
    checkpoint.save(path, {"x": torch.ones(2)}, {"n": 1})

    def full_disk(tensors: object, part: Path, metadata: object) -> None:
        part.write_bytes(b"half of a")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage_tensors, "save_file", full_disk)
    with pytest.raises(StorageError, match="file.safetensors cannot be written: no space"):
        checkpoint.save(path, {"x": torch.zeros(2)}, {"n": 2})
    assert checkpoint.load(path)[1] == {"n": 1}


def test_foreign_and_damaged_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(CheckpointError, match="file.safetensors is damaged"):
        checkpoint.load(path)
    from safetensors.torch import save_file

    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="was not written by odmt_fast"):
        checkpoint.load(path)
    # Another file of ours: a shard of a token store.
    save_file({"values": torch.ones(1)}, path, metadata={"odmt_fast": '{"plan": "x", "shard": 0}'})
    with pytest.raises(CheckpointError, match="file.safetensors is damaged.*--fresh"):
        checkpoint.load(path)


def test_a_checkpoint_of_0_1_is_read_and_said_to_carry_no_digest(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    header = json.dumps({"epoch": 3, "step": 30, "score": 0.5})
    save_file({"model/x": torch.ones(2)}, path, metadata={"odmt_fast": header})
    with pytest.warns(UserWarning, match="odmt_fast 0.1 without a digest"):
        assert checkpoint.load_weights(path)["x"].tolist() == [1, 1]


def test_weights_are_found_from_any_place_in_a_run(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    checkpoints = tmp_path / "checkpoints"
    tensors = checkpoint.model_tensors(model)
    checkpoint.save(checkpoints / checkpoint.BEST, tensors, {})
    checkpoint.save(checkpoints / checkpoint.LAST, {**tensors, "random/cpu": torch.ones(1)}, {})
    places = (
        tmp_path,
        checkpoints / "best",
        checkpoints / "last",
        checkpoints / "last" / "checkpoint.safetensors",
    )
    for place in places:
        weights = checkpoint.load_weights(place)
        nn.Linear(2, 3).load_state_dict(weights)
        assert torch.equal(weights["weight"], model.weight)
    with pytest.raises(FileNotFoundError, match="nowhere holds no checkpoint"):
        checkpoint.load_weights(tmp_path / "nowhere")


@pytest.mark.parametrize("fused", [False, True])
def test_the_optimiser_goes_on_where_it_was(fused: bool) -> None:
    def models() -> tuple[nn.Module, torch.optim.AdamW]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
        model.register_parameter("idle", nn.Parameter(torch.ones(2)))
        return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)

    def step(model: nn.Module, optimizer: torch.optim.AdamW) -> None:
        optimizer.zero_grad()
        model[1](model[0](x)).square().mean().backward()  # type: ignore[index]
        optimizer.step()

    x = torch.randn(5, 3)
    model, optimizer = models()
    step(model, optimizer)
    tensors = {k: v.clone() for k, v in checkpoint.optimizer_tensors(model, optimizer).items()}
    assert "optimizer/0.weight/exp_avg_sq" in tensors
    assert not any("idle" in name for name in tensors)
    other, restored = models()
    other.load_state_dict(model.state_dict())
    checkpoint.restore_optimizer(other, restored, tensors)
    step(model, optimizer)
    step(other, restored)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
