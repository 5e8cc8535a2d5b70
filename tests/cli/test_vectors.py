"""``extract --vectors``: a modality that comes as vectors, and one that goes all the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from odmt_fast.data import Interactions
from odmt_fast.features.store import TokenStore

Command = Callable[..., Any]
SMALL = (
    *("--width", 8, "--max-seq-len", 4, "--epochs", 1, "--batch-size", 16, "--device", "cpu"),
    *("--set", "model.imt_layers=1", "--set", "model.user_layers=1"),
)


@pytest.fixture
def dataset(shop: Path, tmp_path: Path, command: Command) -> Path:
    assert command("prepare", shop, tmp_path / "d").status == 0
    return tmp_path / "d"


def vectors(path: Path, rows: dict[str, Any]) -> Path:
    table = pa.table(
        {"item": list(rows), "vector": pa.array(rows.values(), pa.list_(pa.float32()))}
    )
    pq.write_table(table, path)
    return path


def years(dataset: Path) -> dict[str, Any]:
    return {name: [float(n), 1.0] for n, name in enumerate(Interactions.load(dataset).items.ids)}


def test_text_image_and_a_third_go_all_the_way(
    dataset: Path, tmp_path: Path, command: Command
) -> None:
    for modality in ("text", "image"):
        assert command("extract", dataset, "--modality", modality, "--width", 16).status == 0
    file = vectors(tmp_path / "year.parquet", years(dataset))
    assert command("extract", dataset, "--modality", "year", "--vectors", file).status == 0
    run = tmp_path / "run"
    done = command("train", "--data", dataset, "--output", run, *SMALL, "--json")
    metrics = json.loads(done.out)["test"]["metrics"]
    assert set(metrics) == {"text", "image", "year", "id", "ensemble", "popularity"}
    assert json.loads(command("evaluate", run, "--json").out)["metrics"] == metrics
    found = json.loads(command("recommend", run, "--user", "u3", "-k", 3, "--json").out)
    assert len(found["recommendations"]["u3"]) == 3
    bundle = tmp_path / "bundle"
    assert command("export", run, bundle).status == 0


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_each_vector_is_the_token_of_its_item(
    dataset: Path, tmp_path: Path, command: Command, kind: str
) -> None:
    rows = dict(reversed(years(dataset).items())) | {"elsewhere": [5.0, 5.0]}
    file = tmp_path / f"v.{kind}"
    words = ["--modality", "year", "--vectors", file, "--json"]
    if kind == "npy":
        np.save(file, np.array(list(rows.values())))
        (tmp_path / "ids.txt").write_text("".join(f"{name}\n" for name in rows))
        words += ["--vector-ids", tmp_path / "ids.txt"]
    else:
        vectors(file, rows)
    done = json.loads(command("extract", dataset, *words).out)
    assert (done["unknown_vectors"], done["missing"]) == (1, 0)
    store = TokenStore.open(dataset / "features/year")
    assert (store.max_length, store.dim) == (1, 2)
    wanted = torch.tensor([rows[name] for name in store.item_ids])
    assert torch.equal(store.table().values.float(), wanted)


def test_items_without_a_vector_are_refused_or_allowed(
    dataset: Path, tmp_path: Path, command: Command
) -> None:
    rows = years(dataset)
    first, second = list(rows)[2:4]
    rows[first] = None
    del rows[second]
    file = vectors(tmp_path / "v.parquet", rows)
    words = ("extract", dataset, "--modality", "year", "--vectors", file)
    refused = command(*words)
    assert f"2 of 24 items have no vector, first {first!r}" in refused.err
    assert not (dataset / "features").exists()
    done = json.loads(command(*words, "--missing-vectors", "allow", "--json").out)
    assert done["missing"] == 2
    assert TokenStore.open(dataset / "features/year").missing == (3, 4)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"a": [1, 2], "i03": [1, float("nan")]}, "row 2: item 'i03' has a NaN or infinite"),
        ({"a": [1, 2], "i03": [float("inf"), 1]}, "row 2: item 'i03' has a NaN or infinite"),
        ({"a": [1, 2], "i03": [1, None]}, "row 2: item 'i03' has a NaN or infinite"),
        ({"a": [1, 2], "i03": [1]}, "row 2: item 'i03' has a vector of 1, the first has 2"),
        ({"a": [1, 2], "": [1, 2]}, "row 2: its item is missing"),
        ({"a": None}, "there is no vector here"),
        ({"a": [1.0]}, "none of its items is in the dataset"),
    ],
)
def test_faults_are_named_by_row_and_item(
    dataset: Path, tmp_path: Path, command: Command, rows: dict[str, Any], said: str
) -> None:
    file = vectors(tmp_path / "v.parquet", rows)
    done = command("extract", dataset, "--modality", "year", "--vectors", file)
    assert done.status == 1
    assert said in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--modality", "id"), "--modality 'id' must be a word"),
        (("--modality", "../x"), "must be a word"),
        (("--modality", "x", "--encoder", "hashed-words"), "has nothing to encode"),
        (("--modality", "x", "--missing-vectors", "drop"), "use error or allow"),
        (("--modality", "x", "--vector-columns", "vector"), "must read ITEM,VECTOR"),
        (("--modality", "x", "--vector-columns", "item,v"), "--vector-columns"),
        (("--modality", "x", "--vector-columns", "item,item"), "not lists of numbers"),
        (("--modality", "x", "--vector-ids", "ids.txt"), "leave it out"),
    ],
)
def test_wrong_words_are_one_line(
    dataset: Path, tmp_path: Path, command: Command, words: tuple[str, ...], said: str
) -> None:
    file = vectors(tmp_path / "v.parquet", {"a": [1.0]})
    done = command("extract", dataset, "--vectors", file, *words)
    assert done.status == 1
    assert said in done.err
