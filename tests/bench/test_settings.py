"""The study of single settings has a row for every value, and a panel for every setting."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from bench.settings import VALUES, plot, rows
from odmt_fast.presets import PRESETS
from odmt_fast.studies.grid import Grid


def test_every_value_but_the_presets_is_a_row(tmp_path: Path) -> None:
    base = PRESETS["small"]
    named = rows(base)
    assert len(named) == 1 + sum(len(values) - 1 for values in VALUES.values())
    assert len(Grid.of({"rows": named}, base).rows) == len(named)
    for name, settings in named.items():
        assert base.updated(settings) != base or name == "small"
    record = [{"row": name, "ndcg@10": [0.1, 0.12]} for name in named]
    with Image.open(plot(record, tmp_path / "settings.png")) as image:
        assert image.width > 1000
