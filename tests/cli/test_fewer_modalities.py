"""Shops without texts, without pictures, or without both: every command, one after the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file

Command = Callable[..., Any]

USERS, ITEMS = 12, 10
SMALL = (
    *("--width", 8, "--max-seq-len", 4, "--epochs", 1, "--batch-size", 6, "--device", "cpu"),
    *("--set", "model.imt_layers=1", "--set", "model.user_layers=1"),
)


def write_shop(folder: Path, modalities: tuple[str, ...]) -> Path:
    folder.mkdir()
    lines = [
        f"u{user}\t{' '.join(f'i{(user + step) % ITEMS}' for step in range(6))}"
        for user in range(USERS)
    ]
    (folder / "behaviors.tsv").write_text("\n".join(lines) + "\n")
    if "text" in modalities:
        (folder / "text.tsv").write_text("".join(f"i{n}\tthing {n}\n" for n in range(ITEMS)))
    if "image" in modalities:
        (folder / "images").mkdir()
        for item in range(ITEMS):
            Image.new("RGB", (16, 16), (25 * item, 90, 10)).save(folder / f"images/i{item}.png")
    return folder


@pytest.mark.parametrize("modalities", [(), ("text",), ("image",)], ids=str)
def test_a_shop_of_fewer_modalities_goes_all_the_way(
    modalities: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    shop, dataset, run = write_shop(tmp_path / "s", modalities), tmp_path / "d", tmp_path / "run"
    assert command("prepare", shop, dataset).status == 0
    for modality in modalities:
        assert command("extract", dataset, "--modality", modality, "--width", 16).status == 0
    done = command("train", "--data", dataset, "--output", run, *SMALL, "--json")
    values = json.loads(done.out)
    branches = {"id", *modalities} | ({"ensemble"} if modalities else set())
    assert set(values["test"]["metrics"]) == {*branches, "popularity"}
    metrics = json.loads(command("evaluate", run, "--slices", "--json").out)["metrics"]
    assert metrics == values["test"]["metrics"]
    words = ("--user", "u3", "-k", 3, "--export", tmp_path / "vectors", "--json")
    found = json.loads(command("recommend", run, *words).out)["recommendations"]["u3"]
    assert len(found) == 3
    width = 8 * (1 + len(modalities))
    assert load_file(tmp_path / "vectors/items.safetensors")["vectors"].shape == (ITEMS, width)
    assert command("plot", run).status == 0
    words = ("--data", dataset, "-o", run, "--models", "popularity,sasrec", *SMALL[-4:])
    assert command("baselines", *words, "--set", "training.epochs=1").status == 0
    # The run is finished: asked again it only ranks.
    again = json.loads(command("train", "--data", dataset, "--output", run, *SMALL, "--json").out)
    assert again["test"]["metrics"] == metrics


def test_what_a_dataset_has_is_trained_on_unless_told_otherwise(
    command: Command, tmp_path: Path
) -> None:
    shop, dataset = write_shop(tmp_path / "s", ("text", "image")), tmp_path / "d"
    assert command("prepare", shop, dataset).status == 0
    assert command("extract", dataset, "--modality", "text", "--width", 8).status == 0
    words = ("train", "--data", dataset, *SMALL)
    refused = command(*words, "--output", tmp_path / "a")
    assert "no image features are given; run odmt-fast extract" in refused.err
    assert "--set features.modalities=[text]" in refused.err
    for chosen, branches in (("[text]", {"id", "text", "ensemble"}), ("[]", {"id"})):
        run = tmp_path / f"run{chosen}"
        done = command(*words, "--set", f"features.modalities={chosen}", "--output", run, "--json")
        metrics = json.loads(done.out)["test"]["metrics"]
        assert set(metrics) == {*branches, "popularity"}
        assert json.loads(command("evaluate", run, "--json").out)["metrics"] == metrics


def test_a_store_of_a_modality_the_dataset_lacks_is_not_looked_for(
    command: Command, tmp_path: Path
) -> None:
    """Left by another dataset that was prepared in the folder."""
    dataset = tmp_path / "d"
    assert command("prepare", write_shop(tmp_path / "s", ("text",)), dataset).status == 0
    assert command("extract", dataset, "--modality", "text", "--width", 8).status == 0
    bare = write_shop(tmp_path / "bare", ())
    assert command("prepare", bare, dataset, "--overwrite").status == 0
    done = command("train", "--data", dataset, "--output", tmp_path / "run", *SMALL, "--json")
    assert set(json.loads(done.out)["test"]["metrics"]) == {"id", "popularity"}


def test_extracting_what_is_not_there_is_refused(command: Command, tmp_path: Path) -> None:
    dataset = tmp_path / "d"
    assert command("prepare", write_shop(tmp_path / "s", ("text",)), dataset).status == 0
    done = command("extract", dataset, "--modality", "image")
    assert "--modality image: none of the 10 items" in done.err
    assert not (dataset / "features").exists()


def test_presets_that_start_from_features_name_the_remedy(command: Command, tmp_path: Path) -> None:
    dataset = tmp_path / "d"
    assert command("prepare", write_shop(tmp_path / "s", ()), dataset).status == 0
    words = ("train", "--data", dataset, "--output", tmp_path / "run", "--preset", "arts", *SMALL)
    assert "use --set model.id_init=xavier" in command(*words).err


def test_a_table_that_may_hold_the_texts_is_asked_about(command: Command, tmp_path: Path) -> None:
    shop = write_shop(tmp_path / "s", ())
    (shop / "titles.tsv").write_text("i1\tTea\n")
    done = command("prepare", shop, tmp_path / "d")
    assert "is it titles.tsv? Name it with --option text=FILE" in done.err
    assert command("prepare", shop, tmp_path / "d", "--option", "text=titles.tsv").status == 1
