"""The demo at a tiny size, from nothing to recommendations and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

TINY = (
    *("--users", 60, "--items", 80, "--epochs", 1, "--device", "cpu"),
    *("--set", "model.width=16", "--set", "model.max_seq_len=6", "--set", "model.imt_layers=1"),
)


def test_demo_goes_all_the_way_and_can_be_repeated(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    done = command("demo", "--output", tmp_path / "demo", *TINY, "--json")
    assert done.status == 0, done.err
    values = json.loads(done.out)
    assert list(values["metrics"]) == ["popularity", "id", "text", "image", "ensemble"]
    assert all(set(row) == {"hr@10", "ndcg@10"} for row in values["metrics"].values())
    assert len(values["examples"]) == 3
    for example in values["examples"]:
        assert len(example["recommended"]) == 5
        assert not set(example["history"]) & set(example["recommended"])
    steps = ["shop", "dataset", "text features", "image features", "training", "examples and plots"]
    assert list(values["seconds"]) == steps and min(values["seconds"].values()) > 0
    announced = [line for line in done.err.splitlines() if line[1:3] == "/6"]
    assert [line[0] for line in announced] == list("123456")
    for path in values["figures"]:
        with Image.open(path) as image:
            assert image.size[0] >= 800
    # A second time nothing is trained anew and people see the same.
    again = command("demo", "--output", tmp_path / "demo", *TINY)
    assert again.status == 0, again.err
    assert again.out.splitlines()[-1].startswith("Took ")
    assert f"{values['metrics']['ensemble']['hr@10']:.4f}" in again.out
    assert values["examples"][0]["user"] in again.out
    assert str(values["figures"][0]) in again.out.replace("\n", "")


def test_another_shop_in_the_same_folder_is_refused(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "demo" / "shop").mkdir(parents=True)
    (tmp_path / "demo" / "shop" / "mine.txt").write_text("mine")
    done = command("demo", "--output", tmp_path / "demo", *TINY)
    assert done.status == 1
    assert "something other than the demo" in done.err
