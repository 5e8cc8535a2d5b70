"""``torchrun -m odmt_fast``: one result, the run of one process, and one process for the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from odmt_fast.cli.errors import one_line
from odmt_fast.training.checkpoint import load_weights


def torchrun(*words: object) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*launcher, "--nproc-per-node", "2", "-m", "odmt_fast", *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_two_processes_train_and_test_once(
    tmp_path: Path, shop: Path, command: Callable[..., Any]
) -> None:
    data = tmp_path / "dataset"
    assert command("prepare", shop, data).status == 0
    assert command("extract", data, "--modality", "text", "--width", 16).status == 0
    settings = [
        *("--data", data, "--epochs", 2, "--precision", "fp32", "--width", 8, "--json"),
        *("--set", "model.dropout=0", "--set", "features.modalities=[text]"),
        *("--set", "training.negatives=global", "--set", "training.tensorboard=false"),
    ]
    alone = command("train", *settings, "--batch-size", 14, "-o", tmp_path / "one")
    assert alone.status == 0, alone.err
    done = torchrun("train", *settings, "--batch-size", 7, "-o", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    expected, result = json.loads(alone.out), json.loads(done.stdout)
    assert result["status"] == "finished" and result["epochs"] == 2
    assert result["test"].keys() == expected["test"].keys()
    assert result["best_score"] == pytest.approx(expected["best_score"], abs=0.1)
    one, two = (load_weights(tmp_path / name / "checkpoints/last") for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4, msg=name)
    assert done.stderr.count("starting on cpu") == 1


def test_other_commands_are_for_one_process(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = command("evaluate", "run")
    assert refused.status == 1
    assert "evaluate is the work of one process, not of 2" in refused.err
    monkeypatch.setenv("RANK", "1")
    assert "error: process 1: " in command("evaluate", "run", "--json").err


def test_the_package_is_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "odmt_fast", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith("odmt-fast ")


def test_a_process_whose_peer_died_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = RuntimeError(
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer "
        "[127.0.0.1]:17110. This is typically caused by a remote worker crashing."
    )
    assert "Connection closed" in one_line(gone)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert one_line(gone).startswith("another process of this command ended")
