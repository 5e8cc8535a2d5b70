"""One token an item instead of all: what it is, what the store says of it, and later items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from odmt_fast.features.encoder import EncoderOptions
from odmt_fast.features.extract import extract
from odmt_fast.features.further import StoreEncoder
from odmt_fast.features.store import StoreError

ENCODERS = [("hashed-words", "text"), ("pca-patches", "image")]


@pytest.mark.parametrize("pooling", ["mean", "summary"])
@pytest.mark.parametrize(("encoder", "modality"), ENCODERS)
def test_a_pooled_item_is_one_token_made_of_all_of_them(
    tmp_path: Path, catalogue: Any, encoder: str, modality: str, pooling: Any
) -> None:
    options = EncoderOptions(pooling=pooling, width=12)
    whole = extract(
        catalogue,
        modality,
        encoder,
        tmp_path / "whole",
        options=replace(options, pooling=None),
        dtype="float32",
    )
    pooled = extract(
        catalogue, modality, encoder, tmp_path / "pooled", options=options, dtype="float32"
    )
    assert pooled.item_ids == whole.item_ids
    assert pooled.missing == whole.missing
    for item in range(1, len(catalogue.ids) + 1):
        tokens = whole.gather(torch.tensor([item])).values
        wanted = tokens[0] if pooling == "summary" else tokens.mean(0)
        assert torch.equal(pooled.gather(torch.tensor([item])).values, wanted[None])


@pytest.mark.parametrize(("encoder", "modality"), ENCODERS)
def test_later_items_are_pooled_like_those_of_the_store(
    tmp_path: Path, catalogue: Any, encoder: str, modality: str
) -> None:
    options = EncoderOptions(pooling="mean")
    store = extract(catalogue, modality, encoder, tmp_path, options=options, dtype="float32")
    made = StoreEncoder.of(store)
    assert made is not None
    assert torch.equal(
        made.tokens(catalogue).values,
        store.gather(torch.arange(1, len(catalogue.ids) + 1)).values,
    )


def test_a_store_of_all_tokens_is_not_gone_on_with_pooled(tmp_path: Path, catalogue: Any) -> None:
    extract(catalogue, "text", "hashed-words", tmp_path)
    with pytest.raises(StoreError, match="pooling"):
        extract(catalogue, "text", "hashed-words", tmp_path, options=EncoderOptions(pooling="mean"))


def test_an_unknown_pooling_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="pooling='max' must be summary or mean or None"):
        EncoderOptions(pooling="max")  # type: ignore[arg-type]
