"""``odmt-fast profile``: a table, a trace, nothing left in the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def dataset(tmp_path: Path, shop: Path, command: Callable[..., Any]) -> Path:
    data = tmp_path / "dataset"
    assert command("prepare", shop, data).status == 0
    assert command("extract", data, "--modality", "text", "--width", 16).status == 0
    return data


@pytest.mark.parametrize("model", ["odmt", "id"])
def test_every_stage_has_its_time(
    dataset: Path, tmp_path: Path, command: Callable[..., Any], model: str
) -> None:
    trace = tmp_path / "folder/trace.json"
    settings = ["model.width=8", "features.modalities=[text]", f"model.name={model}"]
    words = [word for setting in settings for word in ("--set", setting)]
    words += ["--data", dataset, "--steps", 2, "--warmup", 1, "--trace", trace, "--device", "cpu"]
    done = command("profile", *words, "--json")
    assert done.status == 0, done.err
    result = json.loads(done.out)
    stages = result["stages"]
    read = {"features"} if model == "odmt" else set()
    for name in {"loader wait", "items", "users", "loss", "optimizer"} | read:
        assert stages[name]["forward"] > 0, name
    for name in ("items", "users", "loss"):
        assert stages[name]["backward"] > 0, name
        assert (stages[name]["floor"] is not None) == (model == "odmt")
    named = sum(stage["forward"] + stage["backward"] for stage in stages.values())
    assert 0.5 * result["seconds"] < named <= result["seconds"]
    names = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"step", "forward", "backward", *stages} - names <= {"features"} - read
    assert not list(trace.parent.glob(".*"))


def test_the_table_names_the_stages(
    dataset: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    words = ["--data", dataset, "--steps", 1, "--warmup", 0, "--trace", tmp_path / "t.json"]
    words += ["--set", "features.modalities=[]", "--device", "cpu"]
    done = command("profile", *words)
    assert done.status == 0, done.err
    for word in ("loader wait", "items", "users", "loss", "optimizer", "rest", "floor share"):
        assert word in done.out
    refused = command("profile", *words, "--steps", 0)
    assert refused.status == 1 and "--steps 0 must be at least 1" in refused.err
