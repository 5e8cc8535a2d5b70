"""The share of the fused vector that is the ID's, for encoders where it is known."""

from __future__ import annotations

import pytest
import torch
from models.features import catalogue, model
from torch import nn

from odmt_fast.evaluation.id_share import id_share


def test_it_is_what_the_two_parts_vary_where_they_only_add_up() -> None:
    made = model("fdsa", catalogue(("text",)))
    ids = torch.arange(1, made.n_items + 1)
    vectors = made.encode_items(ids)[0].detach()
    half = vectors.shape[1] // 2
    changes = (vectors.roll(len(ids) // 2, 0) - vectors).square()
    # The ID vector and the feature vector lie side by side.
    expected = changes[:, :half].mean() / (changes[:, :half].mean() + changes[:, half:].mean())
    assert id_share(made) == pytest.approx(float(expected))


@pytest.mark.parametrize("name", ["odmt", "ef", "unisrec"])
def test_it_follows_what_the_id_weighs(name: str) -> None:
    made = model(name, catalogue())
    table = made.items.get_submodule("id_embedding")
    assert isinstance(table, nn.Embedding)
    before = id_share(made)
    assert before is not None and 0.0 < before < 1.0
    with torch.no_grad():
        table.weight *= 1e-3
    small = id_share(made)
    assert small is not None and small < 1e-3 < before


def test_nothing_fused_has_no_share() -> None:
    for name in ("lf", "text", "id"):
        assert id_share(model(name, catalogue())) is None
