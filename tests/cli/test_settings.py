"""Settings from presets, files, --set and flags; what a wrong one is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from odmt_fast.cli.errors import one_line
from odmt_fast.cli.prepare import reader_options
from odmt_fast.cli.settings import load_config, pairs, read_config
from odmt_fast.config import Config
from odmt_fast.data import TableOptions
from odmt_fast.presets import PRESETS
from odmt_fast.workflow.workspace import Workspace


def test_each_source_overrides_the_ones_before(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("model: {width: 96, dropout: 0.2}\ntraining: {epochs: 7}\n")
    config = load_config(
        file,
        "arts",
        ["model.dropout=0.3", "evaluation.k=[1, 10]", "features.stores={text: a, image: b}"],
        {"training.epochs": 3, "training.seed": None},
    )
    assert config.model.tau == PRESETS["arts"].model.tau
    assert (config.model.width, config.model.dropout) == (96, 0.3)
    assert (config.training.epochs, config.training.seed) == (3, Config().training.seed)
    assert config.evaluation.k == (1, 10)
    assert config.features.stores == {"text": Path("a"), "image": Path("b")}


def test_presets_are_the_settings_that_were_measured() -> None:
    assert load_config(None, "official") == Config()
    results = Path(__file__).parents[2] / "bench" / "results"
    small = json.loads((results / "quality_mini.json").read_text())["setting"]
    config = load_config(None, "small")
    assert (config.model.width, config.model.alpha) == (small["width"], small["alpha"])
    assert (config.model.dropout, config.model.max_seq_len) == (small["dropout"], small["steps"])
    assert config.training.batch_size == small["batch"]
    assert config.training.epochs == small["epochs"]
    assert config.training.learning_rate == small["learning_rate"]
    for preset, data, model in (
        ("medium", "movielens", "odmt"),
        ("sparse", "beauty", "odmt-id-dropout"),
    ):
        study = json.loads((results / "studies" / f"{data}.json").read_text())
        row = next(row["settings"] for row in study["rows"] if row["model"] == model)
        measured = {
            f"{section}.{name}": value
            for section in ("model", "training")
            for name, value in study["config"][section].items()
        } | row
        config = load_config(None, preset).updated({"training.precision": "bf16"})
        assert config.updated(measured) == config


def test_nothing_given_is_the_defaults() -> None:
    assert load_config(None, None) == Config()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: 3", "must hold sections"),
        ("- model", "must hold sections"),
        ("model: {width: [}", "is not YAML"),
        ("model: {widht: 3}", "'model.widht' is not a setting"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(file, None)


def test_wrong_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="use small, medium, sparse, official, stream"):
        load_config(None, "books")
    with pytest.raises(ValueError, match="must read name=value"):
        load_config(None, None, ["model.width"])
    with pytest.raises(ValueError, match=r"absent.yaml does not exist"):
        load_config(tmp_path / "absent.yaml", None)
    with pytest.raises(ValueError, match="no config.json"):
        read_config(tmp_path)
    assert pairs(["a=b=c"], "--store") == {"a": "b=c"}


def test_refused_values_become_one_line() -> None:
    with pytest.raises(ValidationError) as caught:
        load_config(None, None, flags={"model.width": -1, "training.precision": "fp8"})
    line = one_line(caught.value)
    assert "\n" not in line
    assert "model.width=-1" in line
    assert "training.precision='fp8'" in line
    with pytest.raises(ValidationError) as caught:
        load_config(None, None, flags={"model.width": 33})
    assert one_line(caught.value).startswith("width=33 is not a multiple of imt_heads=2")


def test_dropout_by_branch_is_a_setting_like_others() -> None:
    config = load_config(None, None, ["model.item_dropout={id: 0.2}"])
    assert config.model.item_dropout == {"id": 0.2}
    assert Config.model_validate_json(config.model_dump_json()) == config
    for wrong, told in (("1.5", "item_dropout.all=1.5"), ("{id: 1}", "item_dropout.branch.id=1")):
        with pytest.raises(ValidationError) as caught:
            load_config(None, None, [f"model.item_dropout={wrong}"])
        assert one_line(caught.value) == f"model.{told}: Input should be less than 1"


def test_a_bug_is_called_one() -> None:
    assert one_line(OSError("disk\nfull")) == "disk full"
    assert one_line(KeyError("x")).startswith("KeyError: 'x' (a bug")


def test_reader_options_are_parsed_by_kind() -> None:
    options = reader_options("table", ["texts=title,brand", "timestamp=when"])
    assert options == TableOptions(texts=("title", "brand"), timestamp="when")
    with pytest.raises(ValueError, match="--option colour does not exist for hm"):
        reader_options("hm", ["colour=red"])
    with pytest.raises(ValueError, match="--kind books is not known"):
        reader_options("books", [])


def test_more_stores_than_branches_are_refused_before_one_is_opened() -> None:
    stores = {name: Path(name) for name in ("text", "image", "audio", "video", "price")}
    config = Config(features={"stores": stores, "modalities": tuple(stores)})
    with pytest.raises(ValueError, match="price and id are 6 branches, .* by --store NAME=DIR"):
        Workspace(config, data=None, split=None).stores()  # type: ignore[arg-type]
