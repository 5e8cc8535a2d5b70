"""``odmt-fast plan``: a table, a pick with its lines, and errors that name a remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from odmt_fast.cli.plan import size_of


@pytest.fixture
def words(tmp_path: Path, shop: Path, command: Callable[..., Any]) -> list[object]:
    data = tmp_path / "dataset"
    assert command("prepare", shop, data).status == 0
    assert command("extract", data, "--modality", "text", "--width", 16).status == 0
    settings = ["model.width=8", "features.modalities=[text]", "training.precision=fp32"]
    given = [word for setting in settings for word in ("--set", setting)]
    return ["plan", "--data", data, *given, "--probe-seconds", 0.1]


def test_every_way_is_counted_and_one_is_picked(
    words: list[object], command: Callable[..., Any]
) -> None:
    done = command(*words, "--batch-size", 8, "--batch-size", 16, "--micro-items", 4, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    ways = [(row["batch_size"], row["micro_items"]) for row in found["rows"]]
    assert ways == [(8, None), (8, 4), (16, None), (16, 4)]
    assert all(row["fits"] and row["peak"] < found["memory"] for row in found["rows"])
    assert all(row["seconds"] > 0 for row in found["rows"])
    assert yaml.safe_load(found["yaml"])["training"]["batch_size"] == found["pick"]["batch_size"]
    assert found["probes"]


def test_the_table_names_the_parts(words: list[object], command: Callable[..., Any]) -> None:
    done = command(*words, "--batch-size", 8)
    assert done.status == 0, done.err
    for word in ("peak GiB", "users/s", "one pass", "optimiser", "activations kept", "batch_size:"):
        assert word in done.out


def test_a_model_of_ids_has_one_way(words: list[object], command: Callable[..., Any]) -> None:
    done = command(*words, "--set", "model.name=id", "--batch-size", 8, "--json")
    assert done.status == 0, done.err
    assert [row["micro_items"] for row in json.loads(done.out)["rows"]] == [None]


def test_a_card_is_estimated(words: list[object], command: Callable[..., Any]) -> None:
    done = command(*words, "--device", "h100", "--batch-size", 8)
    assert done.status == 0, done.err
    assert "measured on no GPU" in done.out


def test_errors_name_a_remedy(words: list[object], command: Callable[..., Any]) -> None:
    refused = command(*words, "--device", "tpu")
    assert refused.status == 1 and "--device tpu is not known; use cpu, a100" in refused.err
    refused = command(*words, "--batch-size", 8, "--memory", "1MB")
    assert refused.status == 1 and "not even a batch of one user fits" in refused.err
    assert "give more --memory" in refused.err
    refused = command(*words, "--batch-size", 0)
    assert refused.status == 1 and "--batch-size 0 must be at least 1" in refused.err
    refused = command(*words, "--set", "model.id_table=sparse")
    assert refused.status == 1 and "add --set model.id_table=dense" in refused.err
    refused = command(*words, "--memory", "much")
    assert refused.status == 1 and "--memory much is no size" in refused.err


@pytest.mark.parametrize(
    ("words", "size"), [("8GiB", 8 * 2**30), ("500 MB", 5 * 10**8), ("1e6", 10**6), ("2k", 2000)]
)
def test_sizes(words: str, size: int) -> None:
    assert size_of(words) == size
