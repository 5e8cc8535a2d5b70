"""The bench of the digests measures every way of writing and reading a store."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.digest import measure


def test_every_way_has_a_rate(tmp_path: Path) -> None:
    rates = measure(tmp_path / "store.safetensors", torch.ones(64, 768).half(), repeats=1)
    assert len(rates) == 5 and all(rate > 0 for rate in rates.values())
