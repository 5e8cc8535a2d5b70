"""A small untrained bundle and an application over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from odmt_fast.config import ModelConfig
from odmt_fast.data.items import ItemTable
from odmt_fast.data.sequences import Sequences
from odmt_fast.features.tokens import TokenTable
from odmt_fast.models.zoo import build
from odmt_fast.retrieval import KnownUsers, Parts, Recommender
from odmt_fast.service import Live, create_app

N_ITEMS = 60


def made(seed: int, n_items: int = N_ITEMS, prefix: str = "i") -> Recommender:
    g = torch.Generator().manual_seed(seed)
    settings = ModelConfig(width=16, max_seq_len=5, imt_layers=1)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(n_items + 1)])
    sources = {
        name: TokenTable(torch.randn(n_items, 8, generator=g), offsets)
        for name in ("text", "image")
    }
    model = build(settings, [1.0] * (n_items + 1), sources, generator=g).eval()
    ids = tuple(f"{prefix}{i}" for i in range(n_items))
    # A title that UTF-8 has no bytes for, one that would be markup, and none.
    titles = ("Käse \ud800", "<b>bold & 'brave'</b>", None, *(f"thing {i}" for i in ids[3:]))
    known = KnownUsers(("anna", "nobody"), Sequences.from_lists([[1, 2, 3], []]))
    return Recommender(Parts.of(model, settings, ItemTable(ids, titles, (None,) * n_items), known))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return made(1).save(tmp_path / "bundle", users=True)


@pytest.fixture
def live(bundle: Path) -> Live:
    return Live(bundle)


@pytest.fixture
def client(live: Live) -> Iterator[TestClient]:
    with TestClient(create_app(live), raise_server_exceptions=False) as client:
        yield client
